"""Everything the host monitors know, in one value."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar

from otel_netmon.job.collective_window import CollectiveWindow
from otel_netmon.monitors.bandwidth import NetworkBandwidthMonitor
from otel_netmon.monitors.base import HISTORY, DirectMonitor, Monitor
from otel_netmon.monitors.distributed import DistributedNetworkMonitor
from otel_netmon.monitors.interface import NetworkInterfaceMonitor
from otel_netmon.monitors.latency import NetworkLatencyMonitor
from otel_netmon.monitors.points import Point
from otel_netmon.monitors.values import BandwidthStats, LatencyStats, NetworkMetrics

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter


class RealNetworkMonitor(DirectMonitor):
    """The four other monitors together. It is passive but for the latency targets the user named.

    Without arguments everything is as configured. ``interfaces``, ``target_hosts`` and ``window`` go to the
    parts; or give a part itself. A ``bandwidth`` that is given should read the ``interface`` that is given.

    To have it sampled in the background, schedule ``monitors``, so that one that hangs delays no other, and
    ``register`` this one.
    """

    name: ClassVar[str] = "network"
    probes: ClassVar[bool] = True

    def __init__(
        self,
        *,
        interfaces: str | Iterable[str] | None = None,
        target_hosts: str | Iterable[str] | None = None,
        window: CollectiveWindow | None = None,
        interface: NetworkInterfaceMonitor | None = None,
        latency: NetworkLatencyMonitor | None = None,
        bandwidth: NetworkBandwidthMonitor | None = None,
        distributed: DistributedNetworkMonitor | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(clock=clock)
        self.interface = interface or NetworkInterfaceMonitor(interfaces, clock=clock)
        self.latency = latency or NetworkLatencyMonitor(target_hosts, clock=clock)
        self.bandwidth = bandwidth or NetworkBandwidthMonitor(interface_monitor=self.interface, clock=clock)
        self.distributed = distributed or DistributedNetworkMonitor(window=window, clock=clock)
        self._bandwidth_history: deque[BandwidthStats] = deque(maxlen=HISTORY)
        self._latency_history: deque[dict[str, LatencyStats]] = deque(maxlen=HISTORY)

    @property
    def monitors(self) -> tuple[Monitor, ...]:
        """The parts, in the order in which they are measured."""
        return (self.interface, self.bandwidth, self.distributed, self.latency)

    @property
    def bandwidth_history(self) -> deque[BandwidthStats]:
        """A copy of the bandwidths in the last 100 results that had one, oldest first."""
        with self._lock:
            return self._bandwidth_history.copy()

    @property
    def latency_history(self) -> deque[dict[str, LatencyStats]]:
        """A copy of the latencies, by target, in the last 100 results that had any, oldest first."""
        with self._lock:
            return self._latency_history.copy()

    def get_current_metrics(self) -> NetworkMetrics:
        """Measure every part now. A part that fails is ``None`` in the result, and in its own health series.

        It blocks for the latency targets, if there are any; see ``NetworkLatencyMonitor.measure_latency``. It is
        never a collective call.
        """
        started = time.time()
        _, interfaces = self.interface.guarded(self.interface.get_interface_stats)
        bandwidth = None
        if interfaces is not None:
            stats = interfaces
            _, bandwidth = self.bandwidth.guarded(lambda: self.bandwidth.update(stats))
        _, distributed = self.distributed.guarded(self.distributed.read_window)
        _, latency = self.latency.guarded(self.latency.measure_latency)
        with self._lock:
            if bandwidth is not None and bandwidth.window is not None:
                self._bandwidth_history.append(bandwidth)
            if latency:
                self._latency_history.append(latency)
        return NetworkMetrics(
            time=started,
            interfaces=interfaces,
            bandwidth=bandwidth,
            latency=latency,
            distributed=distributed.distributed if distributed is not None else None,
        )

    def sample(self) -> tuple[Point, ...]:
        """One result, into the histories. No points of its own: the parts have them."""
        self.get_current_metrics()
        return ()

    def register(self, meter: Meter) -> None:
        """Register the parts, and the health of this one."""
        for monitor in self.monitors:
            monitor.register(meter)
        super().register(meter)

    def unregister(self) -> None:
        """Silence the parts too."""
        for monitor in self.monitors:
            monitor.unregister()
        super().unregister()
