"""The training's own TCP connections, and round-trip times to the hosts of its job."""

from __future__ import annotations

from typing import Final

from otel_netmon.semconv.attributes import PEER_ADDRESS, PEER_HOST, PEER_RANK
from otel_netmon.semconv.model import SECONDS_BUCKETS, Metric, counter, gauge, up_down_counter
from otel_netmon.semconv.monitors import DIRECTION

TCP_USE: Final = "otel_netmon.tcp.use"
USE_COLLECTIVES: Final = "collectives"
USE_STORE: Final = "store"

_PEER: Final = (PEER_ADDRESS, TCP_USE)
"""``PEER_HOST`` instead of the address, or neither, where ``OTEL_NETMON_PEER_ATTRIBUTE`` says so."""

TCP_IO: Final = counter(
    "otel_netmon.tcp.io",
    "By",
    "Bytes acknowledged by peers (transmit; opening a connection counts as one) and received from them.",
    (*_PEER, DIRECTION),
)
TCP_SEGMENTS: Final = counter(
    "otel_netmon.tcp.segments",
    "{segment}",
    "Data segments sent and received, retransmissions included.",
    (*_PEER, DIRECTION),
)
TCP_RETRANSMITS: Final = counter("otel_netmon.tcp.retransmits", "{segment}", "Segments sent again.", _PEER)
TCP_BUSY: Final = counter(
    "otel_netmon.tcp.busy.time",
    "s",
    "Time in which there was something to send or unacknowledged, summed over connections.",
    _PEER,
)
TCP_RWND_LIMITED: Final = counter(
    "otel_netmon.tcp.rwnd_limited.time",
    "s",
    "Part of the busy time in which the peer's receive window held sending up.",
    _PEER,
)
TCP_SNDBUF_LIMITED: Final = counter(
    "otel_netmon.tcp.sndbuf_limited.time",
    "s",
    "Part of the busy time in which our send buffer held sending up.",
    _PEER,
)
TCP_CONNECTIONS: Final = up_down_counter("otel_netmon.tcp.connections", "{connection}", "Open connections.", _PEER)
TCP_RTT: Final = gauge(
    "otel_netmon.tcp.rtt",
    "s",
    "Smoothed round-trip time: the mean of the connections that sent since the sample before.",
    _PEER,
)
TCP_RTT_MAX: Final = gauge("otel_netmon.tcp.rtt.max", "s", "The longest smoothed round-trip time of those.", _PEER)
TCP_RTT_VARIATION: Final = gauge(
    "otel_netmon.tcp.rtt.variation",
    "s",
    "The kernel's mean deviation of the round-trip time: the largest of those.",
    _PEER,
)
TCP_RTT_MIN: Final = gauge(
    "otel_netmon.tcp.rtt.min",
    "s",
    "The shortest round-trip time of the kernel's window (300 s by default): the lowest of those.",
    _PEER,
)
TCP_DELIVERY_RATE: Final = gauge(
    "otel_netmon.tcp.delivery_rate",
    "By/s",
    "The kernel's latest estimate of the rate at which data reaches the peer: the highest of those.",
    _PEER,
)
TCP_BACKOFF: Final = gauge(
    "otel_netmon.tcp.backoff",
    "{doubling}",
    "How often the retransmission timeout was doubled, as nothing was acknowledged: the most of all connections.",
    _PEER,
)
TCP_UNACKED: Final = gauge(
    "otel_netmon.tcp.unacked", "By", "Bytes written and not acknowledged by the peer, at the sample.", _PEER
)
TCP_UNREAD: Final = gauge(
    "otel_netmon.tcp.unread", "By", "Bytes that arrived and that this process has not read, at the sample.", _PEER
)

PEER_INFO: Final = gauge(
    "otel_netmon.peer.info",
    "{peer}",
    "1 for each rank that this one has connections to, of at most 64: which rank and host an address is.",
    (PEER_ADDRESS, PEER_RANK, PEER_HOST),
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
PEER_LATENCY_MEAN: Final = gauge("otel_netmon.peer.latency.mean", "s", "Mean of the last round.", _PROBED)
PEER_LATENCY_MIN: Final = gauge(
    "otel_netmon.peer.latency.min", "s", "Shortest since the export before: without load, the way's own.", _PROBED
)
PEER_LATENCY_LOSS: Final = gauge(
    "otel_netmon.peer.latency.loss", "1", "Share of the last round's probes that did not come back.", _PROBED
)
