"""Throughput of the watched NICs together: now, at its peak, and as a share of the links' capacity."""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar, Final

from otel_netmon import semconv
from otel_netmon.monitors.base import HISTORY, DirectMonitor
from otel_netmon.monitors.interface import NetworkInterfaceMonitor, share
from otel_netmon.monitors.points import Point, Row, points_of
from otel_netmon.monitors.values import BandwidthStats, InterfaceStats

_ROWS: Final[tuple[Row, ...]] = (
    (semconv.THROUGHPUT, "receive_rate", "transmit_rate"),
    (semconv.THROUGHPUT_PEAK, "peak_receive_rate", "peak_transmit_rate"),
    (semconv.LINK_UTILIZATION, "receive_utilization", "transmit_utilization"),
)


class NetworkBandwidthMonitor(DirectMonitor):
    """Adds up the rates of an interface monitor's NICs; sends nothing.

    ``interface_monitor`` is the one to read, by default one of its own over ``interfaces``. A NIC whose traffic
    another one counts too (``InterfaceStats.part_of``) is left out of the sum. Costs next to nothing where the
    interface monitor is sampled as well, else what that one's sample costs.
    """

    name: ClassVar[str] = "bandwidth"
    metrics: ClassVar[tuple[semconv.Metric, ...]] = tuple(row[0] for row in _ROWS)

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
        self._counted_at: float | None = None
        self._peak_receive_rate: float | None = None
        self._peak_transmit_rate: float | None = None

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
            self._peak_receive_rate = _highest(self._peak_receive_rate, received)
            self._peak_transmit_rate = _highest(self._peak_transmit_rate, sent)
            self._counted_at = _read_at(interfaces)
            stats = BandwidthStats(
                time=time.time() if self._counted_at is None else self._counted_at,
                interfaces=tuple(s.name for s in counted),
                receive_rate=received,
                transmit_rate=sent,
                peak_receive_rate=self._peak_receive_rate,
                peak_transmit_rate=self._peak_transmit_rate,
                window=_highest(*(s.window for s in counted)),
                capacity=capacity,
                receive_utilization=share(received, capacity),
                transmit_utilization=share(sent, capacity),
            )
            if counted:
                self._history.append(stats)
            self._store(points_of(_ROWS, functools.partial(getattr, stats)))
        return stats

    def sample(self) -> tuple[Point, ...]:
        """One measurement: of the interface monitor's last reading where that is a new one, so that the NICs are
        read once a round; else of a reading of its own."""
        latest = self._interface_monitor.latest
        with self._lock:
            is_new = bool(latest) and _read_at(latest) != self._counted_at
        if is_new:
            self.update(latest)
        else:
            self.measure_bandwidth()
        return self.points()


def _read_at(interfaces: Mapping[str, InterfaceStats]) -> float | None:
    return _highest(*(stats.time for stats in interfaces.values()))


def _highest(*values: float | None) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _total(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
