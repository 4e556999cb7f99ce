"""The host side: NICs, paths and this rank's collectives, measured without torch.

Each name is imported when it is first used: a rank has few of the monitors.
"""

from typing import TYPE_CHECKING

from otel_netmon.lazy import exports as _exports

if TYPE_CHECKING:
    from otel_netmon.monitors.bandwidth import NetworkBandwidthMonitor
    from otel_netmon.monitors.base import Monitor
    from otel_netmon.monitors.distributed import DistributedNetworkMonitor
    from otel_netmon.monitors.infiniband import RdmaPortStats
    from otel_netmon.monitors.interface import NetworkInterfaceMonitor
    from otel_netmon.monitors.kernel import KernelNetworkMonitor
    from otel_netmon.monitors.latency import NetworkLatencyMonitor
    from otel_netmon.monitors.network import RealNetworkMonitor
    from otel_netmon.monitors.nics import choose_interfaces
    from otel_netmon.monitors.peer_latency import PeerLatencyMonitor
    from otel_netmon.monitors.points import Point
    from otel_netmon.monitors.pressure import PressureMonitor, ProcessPressureMonitor
    from otel_netmon.monitors.rdma import RdmaMonitor
    from otel_netmon.monitors.scheduler import Scheduler
    from otel_netmon.monitors.tcp import TcpMonitor
    from otel_netmon.monitors.values import (
        BandwidthStats,
        CollectiveStats,
        DistributedMetrics,
        InterfaceStats,
        LatencyStats,
        NetworkMetrics,
        SweepPoint,
    )

__all__ = [
    "BandwidthStats",
    "CollectiveStats",
    "DistributedMetrics",
    "DistributedNetworkMonitor",
    "InterfaceStats",
    "KernelNetworkMonitor",
    "LatencyStats",
    "Monitor",
    "NetworkBandwidthMonitor",
    "NetworkInterfaceMonitor",
    "NetworkLatencyMonitor",
    "NetworkMetrics",
    "PeerLatencyMonitor",
    "Point",
    "PressureMonitor",
    "ProcessPressureMonitor",
    "RdmaMonitor",
    "RdmaPortStats",
    "RealNetworkMonitor",
    "Scheduler",
    "SweepPoint",
    "TcpMonitor",
    "choose_interfaces",
]

__getattr__ = _exports(
    __name__,
    {
        **dict.fromkeys(__all__, "values"),
        "DistributedNetworkMonitor": "distributed",
        "KernelNetworkMonitor": "kernel",
        "Monitor": "base",
        "NetworkBandwidthMonitor": "bandwidth",
        "NetworkInterfaceMonitor": "interface",
        "NetworkLatencyMonitor": "latency",
        "PeerLatencyMonitor": "peer_latency",
        "Point": "points",
        "PressureMonitor": "pressure",
        "ProcessPressureMonitor": "pressure",
        "RdmaMonitor": "rdma",
        "RdmaPortStats": "infiniband",
        "RealNetworkMonitor": "network",
        "Scheduler": "scheduler",
        "TcpMonitor": "tcp",
        "choose_interfaces": "nics",
    },
)
