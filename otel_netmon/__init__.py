"""The network side of distributed PyTorch training, in OpenTelemetry.

Most users need none of this: ``otel-netmon run -- torchrun train.py`` or ``opentelemetry-instrument torchrun
train.py`` do it all. Importing this package imports no torch, and each name only when it is first used: every
Python below ``otel-netmon run`` imports the package, most of them for one or two names.
"""

from typing import TYPE_CHECKING

from otel_netmon.lazy import exports as _exports
from otel_netmon.sdk import at_import as _at_import  # noqa: F401  # before the user's own import of OpenTelemetry
from otel_netmon.version import __version__

if TYPE_CHECKING:
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

_INSTRUMENTOR = ("NetmonInstrumentor", "TorchDistributedInstrumentor", "step")
__getattr__ = _exports(
    __name__, {**dict.fromkeys(__all__, "monitors"), **dict.fromkeys(_INSTRUMENTOR, "instrumentor")}
)
