"""Events to metrics, and what is the same for all events of one operation on one group."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, NamedTuple
from weakref import WeakKeyDictionary

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from otel_netmon import forks, semconv, threads
from otel_netmon.bandwidth import bus_factor
from otel_netmon.capture.aggregator import Distribution, Histograms
from otel_netmon.internals.otel_internals import add_to_point, forget, histogram_points, is_enabled
from otel_netmon.job import peers
from otel_netmon.job.collective_window import SeriesKey, window
from otel_netmon.job.roles import RankIdentity
from otel_netmon.version import __version__

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.capture.operations import Operation
    from otel_netmon.capture.plain import Series
    from otel_netmon.capture.ring import EventRing
    from otel_netmon.emit.progress import Progress
    from otel_netmon.job.groups import Group


MOST_SERIES: Final = 2000
"""Of an instrument: the SDK's own limit, beyond which it sums up in a series ``otel.metric.overflow``."""
_NO_ATTRIBUTES: Final[Mapping[str, str]] = {}


class AttributeSet:
    """What is the same for every event of one operation on one group: attribute dicts are built once."""

    def __init__(self, group: Group, operation: Operation, on_host: bool, rank: RankIdentity) -> None:
        self.rank = rank
        self.operation = operation.name
        self.has_sizes = operation.buffer is not None
        self.backend = group.serving_backend(on_host)
        self.factor = bus_factor(operation.formula, group.size) if operation.formula else None
        self.key = SeriesKey(self.operation, self.backend, group.name)
        self.known: Final = (
            self.operation,
            group.name,
            self.backend,
            group.size if group.size > 0 else None,  # a group need not say
            group.rank if group.rank >= 0 else None,
            rank.rank,
        )
        """The first fields of a ``Collective``."""
        self.metric = {
            str(semconv.COLLECTIVE_NAME): self.operation,
            str(semconv.BACKEND): self.backend,
            str(semconv.GROUP_NAME): group.name,
        }
        self._failed: dict[str, dict[str, str]] = {}

    def metric_attributes(self, error: str | None) -> dict[str, str]:
        if error is None:
            return self.metric
        if error not in self._failed:
            self._failed[error] = {**self.metric, str(semconv.ERROR_TYPE): error}
        return self._failed[error]


class BulkHistogram:
    """The histogram that ``metric`` describes; it takes a whole ``Distribution`` at once. Used by one thread.

    The API has no such call: ``record`` takes one value, for some eight microseconds. Where the SDK is not as
    expected, or the user changed what is aggregated (a view, delta temporality, another SDK), each value goes
    through ``record``.
    """

    def __init__(self, meter: metrics.Meter, metric: semconv.Metric) -> None:
        self.instrument: Any = semconv.create(meter, metric)
        self._points: dict[int, tuple[Mapping[str, str], list[Any]]] = {}
        """By the id of the attributes, which are kept: looking for the points takes longer than all the rest."""

    def forget(self) -> None:
        """Drop what was measured: it is the parent's."""
        self._points.clear()
        forget(self.instrument)

    def _find(self, attributes: Mapping[str, str], boundaries: tuple[float, ...]) -> list[Any] | None:
        known = self._points.get(id(attributes))
        if known is not None:
            return known[1]
        points = histogram_points(self.instrument, attributes, boundaries)
        if points is not None:
            if len(self._points) >= MOST_SERIES:
                self._points.clear()
            self._points[id(attributes)] = attributes, points
        return points

    def record(self, distribution: Distribution, attributes: Mapping[str, str]) -> None:
        """Record all values of ``distribution``: the points come out as if each had been recorded.

        ``attributes`` are not to be changed afterwards.
        """
        if not any(distribution.counts):
            return
        points = self._find(attributes, distribution.boundaries) if is_enabled(self.instrument) else None
        if points is None:
            for value in distribution.values():
                self.instrument.record(value, attributes)
            return
        total = sum(distribution.sums)
        for point in points:
            add_to_point(point, distribution.counts, total, distribution.least, distribution.greatest)


class _Batch(NamedTuple):
    """Finished events of one series: their bytes; seconds, end in seconds and bytes of those that were timed."""

    sizes: list[int]
    durations: list[float]
    ends: list[float]
    timed_sizes: list[int]


class CollectiveMetrics:
    """The collective metrics. Histograms and the counter are synchronous, the rest are read on collection."""

    _made: ClassVar[WeakKeyDictionary[metrics.MeterProvider, CollectiveMetrics]] = WeakKeyDictionary()

    @classmethod
    def of(cls, provider: metrics.MeterProvider | None, ring: EventRing) -> CollectiveMetrics:
        """The sink of ``provider`` (default: the global one), reporting ``ring`` from now on.

        One per provider: an instrument cannot be taken back from its meter, so it is used again.
        """
        provider = provider or metrics.get_meter_provider()
        sink = cls._made.get(provider)
        if sink is None:
            sink = cls._made[provider] = cls(
                provider.get_meter(semconv.SCOPE_COLLECTIVES, __version__, semconv.SCHEMA_URL)
            )
        sink._ring = ring
        sink.errors = 0
        return sink

    def __init__(self, meter: metrics.Meter) -> None:
        self._ring: EventRing | None = None
        self.errors = 0
        self._duration = BulkHistogram(meter, semconv.COLLECTIVE_DURATION_METRIC)
        self._size = BulkHistogram(meter, semconv.COLLECTIVE_SIZE_METRIC)
        self._io: Any = semconv.create(meter, semconv.COLLECTIVE_IO_METRIC)
        self._step = BulkHistogram(meter, semconv.STEP_DURATION_METRIC)
        self._in_collectives: Any = semconv.create(meter, semconv.STEP_COLLECTIVE_TIME_METRIC)
        self._steps: list[tuple[float, float]] = []
        semconv.create(meter, semconv.COLLECTIVE_ACTIVE_METRIC, [self._active])
        semconv.create(meter, semconv.COLLECTIVE_AGE_METRIC, [self._age])
        semconv.create(meter, semconv.COLLECTIVE_ISSUED_METRIC, [lambda _: self._sequences("issued")])
        semconv.create(meter, semconv.COLLECTIVE_ENDED_METRIC, [lambda _: self._sequences("ended")])
        semconv.create(meter, semconv.EVENTS_DROPPED, [self._dropped])
        semconv.create(meter, semconv.PEER_READINGS_DROPPED, [self._unseen])
        self.progress: Progress | None = None
        self._lock = threads.RLock()
        forks.register(self)
        self._seen: set[tuple[str, str, str]] = set()

    def _see(self, keys: Iterable[tuple[str, str, str]]) -> None:
        """A series that was seen goes back to 0 instead of vanishing; beyond the bound it vanishes."""
        with self._lock:
            self._seen.update(
                itertools.islice((key for key in keys if key not in self._seen), MOST_SERIES - len(self._seen))
            )

    def after_fork_in_child(self) -> None:
        """The parent's series are the parent's."""
        self._lock = threads.RLock()
        self._seen.clear()
        self._steps.clear()
        self._ring = self.progress = None
        self.errors = 0
        for histogram in (self._duration, self._size, self._step):
            histogram.forget()
        for counter in (self._io, self._in_collectives):
            forget(counter)

    def detach(self) -> None:
        """Report nothing more."""
        self._ring = self.progress = None

    def _active(self, _: CallbackOptions) -> Iterable[Observation]:
        ring = self._ring
        if ring is None:
            return []
        with self._lock:
            counts = dict.fromkeys(self._seen, 0)
        for (group, operation, on_host), count in ring.active().items():
            key = (operation.name, group.serving_backend(on_host), group.name)
            counts[key] = counts.get(key, 0) + count
        self._see(counts)
        names = (semconv.COLLECTIVE_NAME, semconv.BACKEND, semconv.GROUP_NAME)
        return [Observation(count, dict(zip(names, key, strict=True))) for key, count in counts.items()]

    def _age(self, _: CallbackOptions) -> Iterable[Observation]:
        ring = self._ring
        oldest: dict[tuple[str, str], int] = {}
        for event in ring.in_flight() if ring is not None else ():
            if event.is_unseen:
                continue
            oldest.setdefault((event.group.name, event.group.serving_backend(event.on_host)), event.start)
        now = time.monotonic_ns()
        names = (semconv.GROUP_NAME, semconv.BACKEND)
        return [
            Observation((now - start) / 1e9, dict(zip(names, key, strict=True))) for key, start in oldest.items()
        ]

    def _dropped(self, _: CallbackOptions) -> Iterable[Observation]:
        ring = self._ring
        if ring is None:
            return []
        return [
            Observation(ring.overwritten, {semconv.DROP_REASON: semconv.DROP_RING_FULL}),
            Observation(self.errors, {semconv.DROP_REASON: semconv.DROP_ERROR}),
        ]

    def _sequences(self, which: Literal["issued", "ended"]) -> list[Observation]:
        progress = self.progress
        if progress is None:
            return []
        numbers: dict[Group, int] = getattr(progress, which)
        return [Observation(last, {str(semconv.GROUP_NAME): group.name}) for group, last in numbers.items()]

    def _unseen(self, _: CallbackOptions) -> Iterable[Observation]:
        return [] if self._ring is None else [Observation(peers.readings.dropped)]

    def record(self, events: Iterable[CollectiveEvent]) -> None:
        """Feed finished events, whose kinds have their ``AttributeSet``, to the histograms, the counter and the
        window; some 0.5 µs each."""
        batches: dict[tuple[AttributeSet, str | None, bool], _Batch] = {}
        for event in events:
            end = event.end
            if end is None:
                continue
            kind = event.kind
            key = (kind.about, event.error, kind.is_even)
            batch = batches.get(key)
            if batch is None:
                batch = batches[key] = _Batch([], [], [], [])
            batch.sizes.append(kind.size)
            duration = event.duration
            if duration is not None:
                batch.durations.append(duration / 1e9)
                batch.ends.append(end / 1e9)
                batch.timed_sizes.append(kind.size)
        for (about, error, is_even), batch in batches.items():
            if error is None and batch.durations:
                factor = about.factor if is_even else None
                window.extend(about.key, batch.ends, batch.timed_sizes, batch.durations, factor)
            self._feed(about, error, Histograms(batch.durations, batch.sizes if about.has_sizes else ()))
        self._see(about.key for about, _, _ in batches)

    def record_plain(self, series: Sequence[Series]) -> None:
        """The same of plain calls, added up into buckets."""
        for one in series:
            about: AttributeSet = one.kind.about
            factor = about.factor if one.kind.is_even else None
            window.extend(about.key, one.ends, one.sizes, one.durations, factor)
            amounts = Histograms()
            amounts.seconds.add_counted(*one.in_seconds)
            if about.has_sizes:
                amounts.sizes.add_counted(*one.in_bytes)
            self._feed(about, None, amounts)
        self._see(one.kind.about.key for one in series)

    def record_step(self, seconds: float, in_collectives: float) -> None:
        """Keep for ``feed_steps`` a training step: how long it took on this rank, and how much of that had
        collectives in flight."""
        self._steps.append((seconds, in_collectives))

    def feed_steps(self) -> None:
        """Feed the steps, all at once: one by one takes longer than all the rest of a step."""
        steps, self._steps = self._steps, []
        if steps:
            durations = Distribution(semconv.SECONDS_BUCKETS)
            durations.add(seconds for seconds, _ in steps)
            self._step.record(durations, _NO_ATTRIBUTES)
            self._in_collectives.add(sum(in_collectives for _, in_collectives in steps))

    def record_overwritten(self, about_of: Callable[[Group, Operation, bool], AttributeSet]) -> None:
        """Feed the metrics with the events that the ring overwrote since the last call."""
        if self._ring is not None:
            for key, amounts in self._ring.aggregator.take().items():
                self._feed(about_of(key.group, key.operation, key.on_host), key.error, amounts)

    def _feed(self, about: AttributeSet, error: str | None, amounts: Histograms) -> None:
        attributes = about.metric_attributes(error)
        self._duration.record(amounts.seconds, attributes)
        self._size.record(amounts.sizes, attributes)
        if any(amounts.sizes.counts):
            self._io.add(int(sum(amounts.sizes.sums)), attributes)
