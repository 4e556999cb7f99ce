"""Events counted into the buckets of the metrics, so that counts, sums and extremes come out exact.

Memory is bounded by the number of series times the number of buckets.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from otel_netmon import semconv, threads

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.capture.operations import Operation
    from otel_netmon.job.groups import Group


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

    def add(self, value: float) -> None:
        """Count ``value``, which must not be NaN."""
        index = bisect_left(self.boundaries, value)
        self.counts[index] += 1
        self.sums[index] += value
        self.least = min(self.least, value)
        self.greatest = max(self.greatest, value)

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
    """Durations in seconds and sizes in bytes of the events of one key."""

    def __init__(self) -> None:
        self.seconds = Distribution(semconv.SECONDS_BUCKETS)
        self.sizes = Distribution(semconv.BYTES_BUCKETS)


class Aggregator:
    """Events by key. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threads.RLock()
        self._histograms: dict[Key, Histograms] = {}

    def add(self, event: CollectiveEvent) -> None:
        """Count a finished event; some microseconds. A duration that is not known is left out."""
        key = Key(event.group, event.operation, event.on_host, event.error)
        with self._lock:
            histograms = self._histograms.get(key)
            if histograms is None:
                histograms = self._histograms[key] = Histograms()
            duration = event.duration
            if duration is not None:
                histograms.seconds.add(duration / 1e9)
            if event.operation.buffer is not None:
                histograms.sizes.add(event.size)

    def take(self) -> dict[Key, Histograms]:
        """What was counted since the last call."""
        with self._lock:
            taken, self._histograms = self._histograms, {}
            return taken
