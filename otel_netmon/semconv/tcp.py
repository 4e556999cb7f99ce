"""The training's own TCP connections, and round-trip times to the hosts of its job."""

from __future__ import annotations

from typing import Final

from opentelemetry.semconv.attributes import network_attributes as _net

from otel_netmon.semconv.model import SECONDS_BUCKETS, Metric
from otel_netmon.semconv.monitors import DIRECTION

PEER_ADDRESS: Final = _net.NETWORK_PEER_ADDRESS
TCP_USE: Final = "otel_netmon.tcp.use"
USE_COLLECTIVES: Final = "collectives"
USE_STORE: Final = "store"

_PEER: Final = (PEER_ADDRESS, TCP_USE)
"""``PEER_HOST`` instead of the address, or neither, where ``OTEL_NETMON_PEER_ATTRIBUTE`` says so."""

TCP_IO: Final = Metric(
    "otel_netmon.tcp.io",
    "observable_counter",
    "By",
    "Bytes acknowledged by peers (transmit; opening a connection counts as one) and received from them.",
    (*_PEER, DIRECTION),
)
TCP_SEGMENTS: Final = Metric(
    "otel_netmon.tcp.segments",
    "observable_counter",
    "{segment}",
    "Data segments sent and received, retransmissions included.",
    (*_PEER, DIRECTION),
)
TCP_RETRANSMITS: Final = Metric(
    "otel_netmon.tcp.retransmits", "observable_counter", "{segment}", "Segments sent again.", _PEER
)
TCP_BUSY: Final = Metric(
    "otel_netmon.tcp.busy.time",
    "observable_counter",
    "s",
    "Time in which there was something to send or unacknowledged, summed over connections.",
    _PEER,
)
TCP_RWND_LIMITED: Final = Metric(
    "otel_netmon.tcp.rwnd_limited.time",
    "observable_counter",
    "s",
    "Part of the busy time in which the peer's receive window held sending up.",
    _PEER,
)
TCP_SNDBUF_LIMITED: Final = Metric(
    "otel_netmon.tcp.sndbuf_limited.time",
    "observable_counter",
    "s",
    "Part of the busy time in which our send buffer held sending up.",
    _PEER,
)
TCP_CONNECTIONS: Final = Metric(
    "otel_netmon.tcp.connections", "observable_up_down_counter", "{connection}", "Open connections.", _PEER
)
TCP_RTT: Final = Metric(
    "otel_netmon.tcp.rtt",
    "observable_gauge",
    "s",
    "Smoothed round-trip time: the mean of the connections that sent since the sample before.",
    _PEER,
)
TCP_RTT_MAX: Final = Metric(
    "otel_netmon.tcp.rtt.max", "observable_gauge", "s", "The longest smoothed round-trip time of those.", _PEER
)
TCP_RTT_VARIATION: Final = Metric(
    "otel_netmon.tcp.rtt.variation",
    "observable_gauge",
    "s",
    "The kernel's mean deviation of the round-trip time: the largest of those.",
    _PEER,
)
TCP_RTT_MIN: Final = Metric(
    "otel_netmon.tcp.rtt.min",
    "observable_gauge",
    "s",
    "The shortest round-trip time of the kernel's window (300 s by default): the lowest of those.",
    _PEER,
)
TCP_DELIVERY_RATE: Final = Metric(
    "otel_netmon.tcp.delivery_rate",
    "observable_gauge",
    "By/s",
    "The kernel's latest estimate of the rate at which data reaches the peer: the highest of those.",
    _PEER,
)
TCP_BACKOFF: Final = Metric(
    "otel_netmon.tcp.backoff",
    "observable_gauge",
    "{doubling}",
    "How often the retransmission timeout was doubled, as nothing was acknowledged: the most of all connections.",
    _PEER,
)
TCP_UNACKED: Final = Metric(
    "otel_netmon.tcp.unacked",
    "observable_gauge",
    "By",
    "Bytes written and not acknowledged by the peer, at the sample.",
    _PEER,
)
TCP_UNREAD: Final = Metric(
    "otel_netmon.tcp.unread",
    "observable_gauge",
    "By",
    "Bytes that arrived and that this process has not read, at the sample.",
    _PEER,
)

# --- round-trip times to the job's hosts, where the user asks for them ---------------------------------------

LATENCY_METHOD: Final = "otel_netmon.latency.method"

_PROBED: Final = (PEER_ADDRESS, LATENCY_METHOD)

PEER_LATENCY: Final = Metric(
    "otel_netmon.peer.latency",
    "histogram",
    "s",
    "Round-trip time to other hosts of the job: `icmp` echo, or `tcp` connect to the job's store.",
    (LATENCY_METHOD,),
    SECONDS_BUCKETS,
)
PEER_LATENCY_MEAN: Final = Metric(
    "otel_netmon.peer.latency.mean", "observable_gauge", "s", "Mean of the last round.", _PROBED
)
PEER_LATENCY_MIN: Final = Metric(
    "otel_netmon.peer.latency.min", "observable_gauge", "s", "Shortest of the last round.", _PROBED
)
PEER_LATENCY_LOSS: Final = Metric(
    "otel_netmon.peer.latency.loss",
    "observable_gauge",
    "1",
    "Share of the last round's probes that did not come back.",
    _PROBED,
)
