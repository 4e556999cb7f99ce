"""Dashboards as plain values, and queries that several panels use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from otel_netmon.semconv import Metric

JOB: Final = 'job=~"$job"'
HOST: Final = 'job=~"$job",host_name=~"$host"'
HOST_NAME: Final = "host_name"
DIRECTION: Final = "network_io_direction"
RANK: Final = "torch_distributed_rank"
OPERATION: Final = "torch_distributed_collective_name"
GROUP: Final = "torch_distributed_group_name"
CULPRIT: Final = "otel_netmon_diagnosis_culprit"
KIND: Final = "otel_netmon_diagnosis_kind"
PEER: Final = "network_peer_address"
COLLECTIVES: Final = 'otel_netmon_tcp_use="collectives"'
IN_GROUP: Final = f'{JOB},{GROUP}=~"$group"'


@dataclass(frozen=True)
class Panel:
    """A panel: title, unit, description, and queries with the legend of each."""

    title: str
    unit: str
    says: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"


@dataclass(frozen=True)
class Dashboard:
    """A dashboard: file name, title, variables besides the data source and the job, and rows of panels."""

    name: str
    title: str
    variables: tuple[tuple[str, str, Metric], ...]
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]


def rate(series: str, where: str, by: str) -> str:
    return f"sum by ({by}) (rate({series}{{{where}}}[$__rate_interval]))"


def mean(metric: Metric, where: str, by: str) -> str:
    name = metric.prometheus_name
    return f"{rate(name + '_sum', where, by)} / {rate(name + '_count', where, by)}"


def quantile(metric: Metric, q: str, where: str, by: str) -> str:
    return f"histogram_quantile({q}, {rate(metric.prometheus_name + '_bucket', where, 'le, ' + by)})"


def gauge(metric: Metric, where: str, by: str, how: str = "max") -> str:
    return f"{how} by ({by}) ({metric.prometheus_name}{{{where}}})"


def per(*labels: str) -> str:
    return " ".join(f"{{{{{label}}}}}" for label in labels)


def simple(metric: Metric, title: str, unit: str, says: str, *labels: str, where: str = HOST) -> Panel:
    by, legend = ", ".join(labels), per(*labels)
    if metric.kind in ("counter", "observable_counter"):
        return Panel(title, unit, says, ((rate(metric.prometheus_name, where, by), legend),))
    return Panel(title, unit, says, ((gauge(metric, where, by), legend),))
