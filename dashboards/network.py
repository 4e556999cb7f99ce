"""NICs, peers and RDMA ports, and what only looks like them."""

from __future__ import annotations

from typing import Final

from dashboards.model import COLLECTIVES, HOST, PEER, RANK, Dashboard, Panel, per, rate, simple
from otel_netmon import semconv

_NIC = ("host_name", "network_interface_name")
_PEERS = ("host_name", PEER)
_TCP = f"{HOST},{COLLECTIVES}"
_BUSY = rate(semconv.TCP_BUSY.prometheus_name, _TCP, ", ".join(_PEERS))

NETWORK: Final = Dashboard(
    "network",
    "otel-netmon: network",
    (("host", "host_name", semconv.NIC_IO),),
    (
        (
            "NICs",
            (
                simple(semconv.NIC_IO, "Traffic", "Bps", "All of the NIC's.", *_NIC, "network_io_direction"),
                simple(
                    semconv.NIC_UTILIZATION,
                    "Utilisation",
                    "percentunit",
                    "Of the link's speed.",
                    "host_name",
                    "hw_name",
                    "network_io_direction",
                ),
                simple(semconv.NIC_ERRORS, "Errors", "pps", "Counted by the NIC.", *_NIC, "network_io_direction"),
                simple(
                    semconv.NIC_DROPPED,
                    "Drops",
                    "pps",
                    "Counted by the NIC or the kernel.",
                    *_NIC,
                    "network_io_direction",
                ),
                simple(semconv.NIC_CARRIER_CHANGES, "Link changes", "ops", "The link went down or up.", *_NIC),
                simple(
                    semconv.NIC_FAULTS, "Faults", "ops", "What a healthy NIC never counts.", *_NIC, "error_type"
                ),
            ),
        ),
        (
            "The training's own TCP connections",
            (
                simple(
                    semconv.TCP_RTT,
                    "Round-trip time",
                    "s",
                    "Of the kernel's smoothed values, the mean.",
                    *_PEERS,
                    where=_TCP,
                ),
                Panel(
                    "Retransmitted",
                    "percentunit",
                    "Of the segments sent. Above 1 % it costs bandwidth.",
                    (
                        (
                            f"{rate(semconv.TCP_RETRANSMITS.prometheus_name, _TCP, ', '.join(_PEERS))} / "
                            + rate(
                                semconv.TCP_SEGMENTS.prometheus_name,
                                _TCP + ',network_io_direction="transmit"',
                                ", ".join(_PEERS),
                            ),
                            per(*_PEERS),
                        ),
                    ),
                ),
                simple(semconv.TCP_IO, "Bytes", "Bps", "Payload.", *_PEERS, "network_io_direction", where=_TCP),
                Panel(
                    "What held sending up",
                    "percentunit",
                    "Of the time with data to send: the receiver's window (it reads slowly), or our send buffer.",
                    tuple(
                        (
                            f"{rate(metric.prometheus_name, _TCP, ', '.join(_PEERS))} / {_BUSY}",
                            f"{per(*_PEERS)} {name}",
                        )
                        for metric, name in (
                            (semconv.TCP_RWND_LIMITED, "receiver"),
                            (semconv.TCP_SNDBUF_LIMITED, "send buffer"),
                        )
                    ),
                ),
                simple(
                    semconv.PEER_LATENCY_MEAN,
                    "Latency to peers",
                    "s",
                    "Probed, where OTEL_NETMON_LATENCY_PEERS asks for it.",
                    *_PEERS,
                ),
                simple(
                    semconv.LATENCY_MEAN,
                    "Latency to named targets",
                    "s",
                    "TCP connect time.",
                    "host_name",
                    "server_address",
                    "server_port",
                ),
            ),
        ),
        (
            "RDMA ports",
            (
                simple(
                    semconv.HW_IO, "Traffic", "Bps", "Of the port.", "host_name", "hw_id", "network_io_direction"
                ),
                simple(
                    semconv.RDMA_RETRANSMITS, "Retransmits", "pps", "Packets sent again.", "host_name", "hw_id"
                ),
                simple(
                    semconv.RDMA_CNP,
                    "Congestion notifications",
                    "pps",
                    "CNPs received and sent.",
                    "host_name",
                    "hw_id",
                    "network_io_direction",
                ),
                simple(
                    semconv.RDMA_DISCARDS,
                    "Discards",
                    "pps",
                    "Packets that the port dropped.",
                    "host_name",
                    "hw_id",
                    "network_io_direction",
                ),
                simple(
                    semconv.RDMA_TRANSMIT_WAIT,
                    "Waiting for credits",
                    "ops",
                    "Ticks with data to send and no credit.",
                    "host_name",
                    "hw_id",
                ),
                simple(semconv.RDMA_LINK_DOWNED, "Link down", "ops", "The link failed.", "host_name", "hw_id"),
            ),
        ),
        (
            "What looks like a slow network and is none",
            (
                simple(
                    semconv.PRESSURE_STALL,
                    "Pressure",
                    "percentunit",
                    "Time in which tasks waited for CPU, memory or I/O.",
                    "host_name",
                    "otel_netmon_pressure_resource",
                ),
                simple(
                    semconv.PROCESS_RUN_QUEUE,
                    "Ranks waiting for a CPU",
                    "s",
                    "Seconds per second on the run queue.",
                    "host_name",
                    RANK,
                ),
                simple(
                    semconv.CGROUP_THROTTLED,
                    "Throttled by the CPU quota",
                    "s",
                    "Seconds per second.",
                    "host_name",
                    RANK,
                ),
                simple(
                    semconv.SOFTNET_DROPPED,
                    "Packets that the kernel dropped",
                    "pps",
                    "Its receive queue was full.",
                    "host_name",
                ),
            ),
        ),
    ),
)
