"""Throughput of the watched NICs together: now, at its peak, and as a share of the links' capacity."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

from opentelemetry.metrics import Observation

from otel_netmon import semconv
from otel_netmon.monitors.base import HISTORY, Monitor, Series
from otel_netmon.monitors.interface import NetworkInterfaceMonitor, share
from otel_netmon.monitors.values import BandwidthStats, InterfaceStats


class NetworkBandwidthMonitor(Monitor):
    """Adds up the rates of an interface monitor's NICs; sends nothing.

    ``interface_monitor`` is the one to read, by default one of its own over ``interfaces``. A NIC whose traffic
    another one counts too (``InterfaceStats.part_of``) is left out of the sum. Costs what the interface
    monitor's sample costs.
    """

    name: ClassVar[str] = "bandwidth"

    def __init__(
        self,
        *,
        interface_monitor: NetworkInterfaceMonitor | None = None,
        interfaces: str | Iterable[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(clock=clock)
        if interface_monitor is None:
            interface_monitor = NetworkInterfaceMonitor(interfaces, clock=clock)
        elif interfaces is not None:
            raise ValueError("give interfaces to the interface_monitor")
        self._interface_monitor = interface_monitor
        self._history: deque[BandwidthStats] = deque(maxlen=HISTORY)
        self._latest: BandwidthStats | None = None
        self._peaks: dict[str, float] = {}

    @property
    def bandwidth_history(self) -> deque[BandwidthStats]:
        """A copy of the last 100 measurements that had a rate, oldest first."""
        with self._lock:
            return self._history.copy()

    def measure_bandwidth(self) -> BandwidthStats:
        """Read the counters now. Rates are ``None`` until the interface monitor has one; see there.

        Raises OSError when the counters cannot be read at all.
        """
        return self.update(self._interface_monitor.get_interface_stats())

    def update(self, interfaces: Mapping[str, InterfaceStats]) -> BandwidthStats:
        """Count a reading of the NICs that was made elsewhere as a measurement. No I/O."""
        counted = [s for s in interfaces.values() if s.part_of is None and s.window is not None]
        received = _total(s.receive_rate for s in counted)
        sent = _total(s.transmit_rate for s in counted)
        # a port that is down offers nothing, and does not know its speed
        speeds = [s.speed for s in counted if s.up is not False]
        capacity = None if None in speeds else _total(speeds)
        with self._lock:
            for direction, rate in ((semconv.DIRECTION_RECEIVE, received), (semconv.DIRECTION_TRANSMIT, sent)):
                if rate is not None:
                    self._peaks[direction] = max(rate, self._peaks.get(direction, rate))
            stats = BandwidthStats(
                time=max((s.time for s in interfaces.values()), default=time.time()),
                interfaces=tuple(s.name for s in counted),
                receive_rate=received,
                transmit_rate=sent,
                peak_receive_rate=self._peaks.get(semconv.DIRECTION_RECEIVE),
                peak_transmit_rate=self._peaks.get(semconv.DIRECTION_TRANSMIT),
                window=max((s.window for s in counted if s.window is not None), default=None),
                capacity=capacity,
                receive_utilization=share(received, capacity),
                transmit_utilization=share(sent, capacity),
            )
            self._latest = stats
            if counted:
                self._history.append(stats)
        return stats

    def sample(self) -> None:
        """One measurement."""
        self.measure_bandwidth()

    def series(self) -> tuple[Series, ...]:
        """Throughput, its peak, and utilisation, per direction."""
        return (
            (semconv.THROUGHPUT, lambda: self._pair(lambda s: (s.receive_rate, s.transmit_rate))),
            (
                semconv.THROUGHPUT_PEAK,
                lambda: self._pair(lambda s: (s.peak_receive_rate, s.peak_transmit_rate)),
            ),
            (
                semconv.LINK_UTILIZATION,
                lambda: self._pair(lambda s: (s.receive_utilization, s.transmit_utilization)),
            ),
        )

    def _pair(self, read: Callable[[BandwidthStats], tuple[float | None, float | None]]) -> Iterable[Observation]:
        if self._latest is None:
            return
        for value, attributes in zip(read(self._latest), (_RECEIVE, _TRANSMIT), strict=True):
            if value is not None:
                yield Observation(value, attributes)


_RECEIVE = {semconv.DIRECTION: semconv.DIRECTION_RECEIVE}
_TRANSMIT = {semconv.DIRECTION: semconv.DIRECTION_TRANSMIT}


def _total(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
