"""Which monitor's sample a point is of: its time is that of the export, less the age that the monitor reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from otel_netmon.semconv.monitors import NIC_IO
from otel_netmon.semconv.pressure import CGROUP_THROTTLED
from otel_netmon.semconv.tcp import PEER_LATENCY_MIN, TCP_BACKOFF, TCP_IO

SAMPLED_BY: Final[Mapping[str, str]] = {
    NIC_IO.name: "interface",
    TCP_IO.name: "tcp",
    TCP_BACKOFF.name: "tcp",
    CGROUP_THROTTLED.name: "process",
    PEER_LATENCY_MIN.name: "latency_peers",
}
"""By metric, the ``MONITOR_NAME`` of the monitor; of those whose time matters to a diagnosis."""
