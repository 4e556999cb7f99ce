"""A collection of metrics as a line of OTLP JSON, encoded some points at a time.

The official encoder makes ten to twenty objects of a point. Those of a collection, alive together, have Python's
garbage collector look for cycles among them and, now and then, among all objects of the process: with torch
imported, that stops the training for 0.2 s. So few are alive at a time, and what is kept of them is text.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from opentelemetry.exporter.otlp.json.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics.export import Metric, MetricsData, ResourceMetrics, ScopeMetrics
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_netmon.text import HERE, as_json

_AT_ONCE: Final = 8
"""Points."""
_NOWHERE: Final = Resource({}), InstrumentationScope("")


def metrics_line(data: MetricsData) -> bytes:
    """``data`` as a line of OTLP JSON: what the official encoder makes of it."""
    around = encode_metrics(_without_metrics(data)).to_dict()
    metrics = []
    for resource, its in zip(data.resource_metrics, around.get("resourceMetrics", ()), strict=True):
        for scope, those in zip(resource.scope_metrics, its.get("scopeMetrics", ()), strict=True):
            those["metrics"] = [HERE]
            metrics.append(",".join(map(_json, scope.metrics)))
    first, *between = as_json(around).split(as_json(HERE))
    put = "".join(f"{found}{after}" for found, after in zip(metrics, between, strict=True))
    return f"{first}{put}\n".encode()


def _json(metric: Metric) -> str:
    points, found = [], {}
    for piece in _pieces(metric):
        found = encode_metrics(_alone(piece)).to_dict()["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]
        for about in found.values():
            if isinstance(about, dict) and "dataPoints" in about:
                points.append(as_json(about["dataPoints"])[1:-1])
                about["dataPoints"] = [HERE]
    return as_json(found).replace(as_json(HERE), ",".join(points))


def _without_metrics(data: MetricsData) -> MetricsData:
    return MetricsData(
        [
            replace(resource, scope_metrics=[replace(scope, metrics=()) for scope in resource.scope_metrics])
            for resource in data.resource_metrics
        ]
    )


def _pieces(metric: Metric) -> Iterator[Metric]:
    """``metric`` with some of its points each, at least once."""
    points = metric.data.data_points
    for first in range(0, max(1, len(points)), _AT_ONCE):
        some: Any = points[first : first + _AT_ONCE]
        yield replace(metric, data=replace(metric.data, data_points=some))


def _alone(metric: Metric) -> MetricsData:
    resource, scope = _NOWHERE
    return MetricsData([ResourceMetrics(resource, [ScopeMetrics(scope, [metric], "")], "")])
