"""The dashboard of NICs, peers and RDMA ports, and of what can look like a slow network but is not."""

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
                simple(
                    semconv.NIC_IO,
                    "Traffic",
                    "Bps",
                    "All traffic of the NIC, not only the job's.",
                    *_NIC,
                    "network_io_direction",
                ),
                simple(
                    semconv.NIC_UTILIZATION,
                    "Utilisation",
                    "percentunit",
                    "Share of the link speed.",
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
                simple(
                    semconv.NIC_CARRIER_CHANGES,
                    "Link changes",
                    "ops",
                    "Times that the link went down or up.",
                    *_NIC,
                ),
                simple(
                    semconv.NIC_FAULTS,
                    "Faults",
                    "ops",
                    "Errors that a healthy NIC never counts.",
                    *_NIC,
                    "error_type",
                ),
            ),
        ),
        (
            "The job's own TCP connections",
            (
                simple(
                    semconv.TCP_RTT,
                    "Round-trip time",
                    "s",
                    "Mean of the kernel's smoothed round-trip times.",
                    *_PEERS,
                    where=_TCP,
                ),
                Panel(
                    "Retransmits",
                    "percentunit",
                    "Share of the segments sent. Above 1 % it costs bandwidth.",
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
                simple(
                    semconv.TCP_IO, "Bytes", "Bps", "Payload only.", *_PEERS, "network_io_direction", where=_TCP
                ),
                Panel(
                    "What limited sending",
                    "percentunit",
                    "Share of the time with data to send: limited by the receiver's window (it reads slowly), or "
                    "by our send buffer.",
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
                    "Only measured if OTEL_NETMON_LATENCY_PEERS=true.",
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
                    semconv.HW_IO,
                    "Traffic",
                    "Bps",
                    "All traffic of the port.",
                    "host_name",
                    "hw_id",
                    "network_io_direction",
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
                    "Clock ticks of the port with data to send but no credit.",
                    "host_name",
                    "hw_id",
                ),
                simple(
                    semconv.RDMA_LINK_DOWNED,
                    "Link down",
                    "ops",
                    "Times that the link went down.",
                    "host_name",
                    "hw_id",
                ),
            ),
        ),
        (
            "What can look like a slow network but is not",
            (
                simple(
                    semconv.PRESSURE_STALL,
                    "Pressure",
                    "percentunit",
                    "Share of the time in which tasks waited for CPU, memory or I/O.",
                    "host_name",
                    "otel_netmon_pressure_resource",
                ),
                simple(
                    semconv.PROCESS_RUN_QUEUE,
                    "Ranks waiting for a CPU",
                    "s",
                    "Seconds per second in the run queue.",
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
                    "Packets dropped by the kernel",
                    "pps",
                    "Its receive queue was full.",
                    "host_name",
                ),
            ),
        ),
    ),
)
