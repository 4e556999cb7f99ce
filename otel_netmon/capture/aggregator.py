"""Events counted into the buckets of the metrics, so that counts, sums and extremes come out exact.

Memory is bounded by the number of series times the number of buckets.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from otel_netmon import semconv, threads

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.capture.operations import Operation
    from otel_netmon.job.groups import Group


_Counted: TypeAlias = "tuple[list[int], list[float], float, float]"


class Key(NamedTuple):
    """What events with the same metric attributes have in common."""

    group: Group
    operation: Operation
    on_host: bool
    error: str | None


class Distribution:
    """Values of one histogram series: ``counts`` and ``sums`` per bucket, the least and the greatest."""

    def __init__(self, boundaries: tuple[float, ...]) -> None:
        self.boundaries = boundaries
        self.counts = [0] * (len(boundaries) + 1)
        self.sums = [0.0] * (len(boundaries) + 1)
        self.least = float("inf")
        self.greatest = float("-inf")

    def add(self, values: Iterable[float]) -> None:
        """Count ``values``, of which none may be NaN."""
        values = sorted(values)
        if not values:
            return
        self.least = min(self.least, values[0])
        self.greatest = max(self.greatest, values[-1])
        first, end = 0, len(values)
        while first < end:
            index = bisect_left(self.boundaries, values[first])
            within = bisect_right(values, self.boundaries[index], first) if index < len(self.boundaries) else end
            self.counts[index] += within - first
            self.sums[index] += sum(values[first:within])
            first = within

    def add_counted(self, counts: list[int], sums: list[float], least: float, greatest: float) -> None:
        """Count what another has counted by the same boundaries."""
        self.counts = [*map(int.__add__, self.counts, counts)]
        self.sums = [*map(float.__add__, self.sums, sums)]
        self.least = min(self.least, least)
        self.greatest = max(self.greatest, greatest)

    def values(self) -> list[float]:
        """As many values with the same sum, extremes and counts per bucket."""
        counts, sums = list(self.counts), list(self.sums)
        extremes = list(dict.fromkeys((self.least, self.greatest))) if any(counts) else []
        for value in extremes:
            index = bisect_left(self.boundaries, value)
            counts[index] -= 1
            sums[index] -= value
        return extremes + [total / n for n, total in zip(counts, sums, strict=True) for _ in range(n)]


class Histograms:
    """Durations in seconds and sizes in bytes of some events."""

    def __init__(self, seconds: Iterable[float] = (), sizes: Iterable[int] = ()) -> None:
        self.seconds = Distribution(semconv.SECONDS_BUCKETS)
        self.sizes = Distribution(semconv.BYTES_BUCKETS)
        self.add(seconds, sizes)

    def add(self, seconds: Iterable[float], sizes: Iterable[int]) -> None:
        """Count events: the durations of those that have one, and the sizes."""
        self.seconds.add(seconds)
        self.sizes.add(sizes)


class Aggregator:
    """Events that nobody drained, by key. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threads.RLock()
        self._histograms: dict[Key, Histograms] = {}

    def add(self, event: CollectiveEvent) -> None:
        """Count a finished event; some microseconds. A duration that is not known is left out."""
        kind, duration = event.kind, event.duration
        key = Key(kind.group, kind.operation, kind.on_host, event.error)
        with self._lock:
            histograms = self._histograms.get(key)
            if histograms is None:
                histograms = self._histograms[key] = Histograms()
            histograms.add(
                () if duration is None else (duration / 1e9,),
                () if kind.operation.buffer is None else (kind.size,),
            )

    def merge(self, key: Key, seconds: _Counted, sizes: _Counted | None) -> None:
        """Count events that were counted elsewhere, as ``Distribution.add_counted`` takes them."""
        with self._lock:
            histograms = self._histograms.setdefault(key, Histograms())
            histograms.seconds.add_counted(*seconds)
            if sizes is not None:
                histograms.sizes.add_counted(*sizes)

    def take(self) -> dict[Key, Histograms]:
        """What was counted since the last call."""
        with self._lock:
            taken, self._histograms = self._histograms, {}
            return taken
