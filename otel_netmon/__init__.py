"""The network side of distributed PyTorch training, in OpenTelemetry.

Most users need none of this: ``otel-netmon run -- torchrun train.py`` or ``opentelemetry-instrument torchrun
train.py`` do it all. Importing this package imports no torch.
"""

from otel_netmon.instrumentor import NetmonInstrumentor, TorchDistributedInstrumentor, step
from otel_netmon.monitors import (
    BandwidthStats,
    CollectiveStats,
    DistributedMetrics,
    DistributedNetworkMonitor,
    InterfaceStats,
    LatencyStats,
    Monitor,
    NetworkBandwidthMonitor,
    NetworkInterfaceMonitor,
    NetworkLatencyMonitor,
    NetworkMetrics,
    RealNetworkMonitor,
    Scheduler,
    SweepPoint,
)
from otel_netmon.version import __version__

__all__ = [
    "BandwidthStats",
    "CollectiveStats",
    "DistributedMetrics",
    "DistributedNetworkMonitor",
    "InterfaceStats",
    "LatencyStats",
    "Monitor",
    "NetmonInstrumentor",
    "NetworkBandwidthMonitor",
    "NetworkInterfaceMonitor",
    "NetworkLatencyMonitor",
    "NetworkMetrics",
    "RealNetworkMonitor",
    "Scheduler",
    "SweepPoint",
    "TorchDistributedInstrumentor",
    "__version__",
    "step",
]
