"""The dashboard of NICs, peers and RDMA ports, and of what can look like a slow network but is not."""

from __future__ import annotations

from typing import Final

from dashboards.model import (
    COLLECTIVES,
    DIRECTION,
    HOST,
    HOST_NAME,
    PEER,
    RANK,
    Dashboard,
    Panel,
    per,
    rate,
    simple,
)
from otel_netmon import semconv

_NIC = (HOST_NAME, "network_interface_name")
_PORT = (HOST_NAME, "hw_id")
_PEERS = (HOST_NAME, PEER)
_TCP = f"{HOST},{COLLECTIVES}"
_BUSY = rate(semconv.TCP_BUSY.prometheus_name, _TCP, ", ".join(_PEERS))

_NICS: Final = (
    simple(semconv.NIC_IO, "Traffic", "Bps", "All traffic of the NIC, not only the job's.", *_NIC, DIRECTION),
    simple(
        semconv.NIC_UTILIZATION,
        "Utilisation",
        "percentunit",
        "Share of the link speed.",
        HOST_NAME,
        "hw_name",
        DIRECTION,
    ),
    simple(semconv.NIC_ERRORS, "Errors", "pps", "Counted by the NIC.", *_NIC, DIRECTION),
    simple(semconv.NIC_DROPPED, "Drops", "pps", "Counted by the NIC or the kernel.", *_NIC, DIRECTION),
    simple(semconv.NIC_CARRIER_CHANGES, "Link changes", "ops", "Times that the link went down or up.", *_NIC),
    simple(semconv.NIC_FAULTS, "Faults", "ops", "Errors that a healthy NIC never counts.", *_NIC, "error_type"),
)

_CONNECTIONS: Final = (
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
    simple(semconv.TCP_IO, "Bytes", "Bps", "Payload only.", *_PEERS, DIRECTION, where=_TCP),
    Panel(
        "What limited sending",
        "percentunit",
        "Share of the time with data to send: limited by the receiver's window (it reads slowly), or "
        "by our send buffer.",
        tuple(
            (f"{rate(metric.prometheus_name, _TCP, ', '.join(_PEERS))} / {_BUSY}", f"{per(*_PEERS)} {name}")
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
        HOST_NAME,
        "server_address",
        "server_port",
    ),
)

_RDMA: Final = (
    simple(semconv.HW_IO, "Traffic", "Bps", "All traffic of the port.", *_PORT, DIRECTION),
    simple(semconv.RDMA_RETRANSMITS, "Retransmits", "pps", "Packets sent again.", *_PORT),
    simple(semconv.RDMA_CNP, "Congestion notifications", "pps", "CNPs received and sent.", *_PORT, DIRECTION),
    simple(semconv.RDMA_DISCARDS, "Discards", "pps", "Packets that the port dropped.", *_PORT, DIRECTION),
    simple(
        semconv.RDMA_TRANSMIT_WAIT,
        "Waiting for credits",
        "ops",
        "Clock ticks of the port with data to send but no credit.",
        *_PORT,
    ),
    simple(semconv.RDMA_LINK_DOWNED, "Link down", "ops", "Times that the link went down.", *_PORT),
)

_LOOK_ALIKES: Final = (
    simple(
        semconv.PRESSURE_STALL,
        "Pressure",
        "percentunit",
        "Share of the time in which tasks waited for CPU, memory or I/O.",
        HOST_NAME,
        "otel_netmon_pressure_resource",
    ),
    simple(
        semconv.PROCESS_RUN_QUEUE,
        "Ranks waiting for a CPU",
        "s",
        "Seconds per second in the run queue.",
        HOST_NAME,
        RANK,
    ),
    simple(semconv.CGROUP_THROTTLED, "Throttled by the CPU quota", "s", "Seconds per second.", HOST_NAME, RANK),
    simple(
        semconv.SOFTNET_DROPPED, "Packets dropped by the kernel", "pps", "Its receive queue was full.", HOST_NAME
    ),
)

NETWORK: Final = Dashboard(
    "network",
    "otel-netmon: network",
    (("host", HOST_NAME, semconv.NIC_IO),),
    (
        ("NICs", _NICS),
        ("The job's own TCP connections", _CONNECTIONS),
        ("RDMA ports", _RDMA),
        ("What can look like a slow network but is not", _LOOK_ALIKES),
    ),
)
