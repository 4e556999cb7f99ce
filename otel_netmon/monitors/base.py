"""What every monitor shares: the points of its last sample behind one lock, health, instruments, forks.

No I/O under the lock, state is only read or swapped: an exporter's callback waits for a few assignments at most.
"""

from __future__ import annotations

import abc
import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from opentelemetry.metrics import Histogram, Observation

from otel_netmon import forks, semconv, threads
from otel_netmon.internals.otel_internals import forget
from otel_netmon.monitors import observers
from otel_netmon.monitors.points import Point, attributes

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")
_MAX_KINDS: Final = 32  # kinds of failure remembered as logged, per monitor; then the oldest is logged again
_HEALTH: Final = (semconv.MONITOR_SUCCESS, semconv.MONITOR_DURATION, semconv.MONITOR_AGE)

HISTORY: Final = 100
"""Entries kept in a monitor's history."""


class Monitor(abc.ABC):
    """One source of measurements. Subclasses give ``name``, ``metrics`` and ``sample``; the rest is here."""

    name: ClassVar[str]
    """Short, unique; the value of the attribute of its health series."""

    metrics: ClassVar[tuple[semconv.Metric, ...]] = ()
    """All that its points may be of."""

    probes: ClassVar[bool] = False
    """True when a sample sends something: the first one is then delayed by a random part of the interval."""

    @property
    def longest_interval(self) -> float:
        """Seconds: it is sampled so often at least, whatever interval the user set. Asked after each sample."""
        return math.inf

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._histograms: dict[str, Histogram] = {}
        Monitor.after_fork_in_child(self)
        forks.register(self)

    def after_fork_in_child(self) -> None:
        """Begin anew, called in a forked child, alone: a thread of the parent may have held the lock, and what was
        measured is the parent's to report. Where a subclass has locks or threads of its own it adds to this."""
        self._lock = threads.RLock()
        self._sampling: int | None = None
        """The thread that is in ``run_once``."""
        self._points: dict[str, list[Point]] = {}
        self._success: bool | None = None
        self._duration: float | None = None
        self._sampled_at: float | None = None
        self._logged: dict[tuple[str, object], None] = {}
        for histogram in self._histograms.values():
            forget(histogram)
        self._histograms = {}

    @abc.abstractmethod
    def sample(self) -> Iterable[Point]:
        """Measure once. May do I/O and may raise. Called without the lock, by one thread at a time (``run_once``).

        The points replace those of the sample before; "there is nothing of this here" is no point, not a failure.
        """

    def points(self) -> tuple[Point, ...]:
        """What the last sample that worked gave, without histograms; empty before the first. No I/O."""
        with self._lock:
            return tuple(itertools.chain.from_iterable(self._points.values()))

    def health(self) -> tuple[Point, ...]:
        """Success (1 or 0) and duration (s) of the last sample, age (s) of the points; those that are known."""
        with self._lock:
            age = None if self._sampled_at is None else self._clock() - self._sampled_at
            success = None if self._success is None else int(self._success)
            values = zip(_HEALTH, (success, self._duration, age), strict=True)
        about = attributes((semconv.MONITOR_NAME, self.name))
        return tuple(Point(metric, value, about) for metric, value in values if value is not None)

    def observations(self, metric: str) -> list[Observation]:
        """The present values of the metric of that name, as an instrument's callback gives them. No I/O."""
        with self._lock:
            found = self._points.get(metric)
        if found is None:
            found = [one for one in self.health() if one.metric.name == metric]
        return [Observation(value, about) for _, value, about in found]

    def register(self, meter: Meter) -> None:
        """Create the instruments of ``metrics`` and of the health with ``meter``, until ``unregister()``.

        Their callbacks read the points: some microseconds each, no I/O, no exception.
        """
        for metric in (*self.metrics, *_HEALTH):
            if metric.kind != "histogram":
                observers.add(meter, self.observations, metric)
                continue
            histogram = semconv.create(meter, metric)
            assert isinstance(histogram, Histogram)
            with self._lock:
                self._histograms = {**self._histograms, metric.name: histogram}

    def unregister(self) -> None:
        """Report nothing more through any meter. Measuring by hand, and ``register``, still work."""
        observers.remove(self.observations)
        with self._lock:
            self._histograms = {}

    def run_once(self) -> bool:
        """``sample()``, timed, its points swapped in, every exception caught; the first of each kind is logged.

        True on success. While another thread is in it, nothing is done: that thread's sample counts for both, as
        sums of differences would be wrong if readings overtook one another.
        """
        with self._lock:
            if self._sampling is not None:
                return self._success is not False
            self._sampling = threading.get_ident()
        try:
            return self.guarded(self._sample_and_store)[0]
        finally:
            with self._lock:
                self._sampling = None

    def guarded(self, measure: Callable[[], _T]) -> tuple[bool, _T | None]:
        """Whether ``measure`` worked, and its result; noted as this monitor's health. Raises no Exception."""
        start = self._clock()
        value: _T | None = None
        failure: Exception | None = None
        try:
            value = measure()
        except Exception as error:  # noqa: BLE001  # a monitor's failure is its own series, never the job's
            failure = error
        end = self._clock()
        with self._lock:
            self._success = failure is None
            self._duration = end - start
            if failure is None:
                self._sampled_at = end
        if failure is not None:
            self._log_once(failure)
        return failure is None, value

    def _sample_and_store(self) -> None:
        points: Iterable[Point] | None = self.sample()
        if points is None:
            raise TypeError("sample() gave no points; CHANGELOG.md says how to move from series() to points")
        points = tuple(points)
        self._store(points)
        self._record(points)

    def _store(self, points: Iterable[Point]) -> None:
        """Swap the points in. Takes the lock and does no I/O."""
        by_metric: dict[str, list[Point]] = {metric.name: [] for metric in self.metrics}
        for point in points:
            name = point.metric.name
            if name not in by_metric:
                raise ValueError(f"{name} is missing in {type(self).__name__}.metrics")
            if point.metric.kind != "histogram":
                by_metric[name].append(point)
        with self._lock:
            self._points = by_metric

    def _record(self, points: Iterable[Point]) -> None:
        """Hand what is a histogram's to the SDK, which has locks of its own: ours must not be held."""
        with self._lock:
            histograms = self._histograms
        for metric, value, about in points:
            if metric.name in histograms:
                histograms[metric.name].record(value, about)

    def _log_once(self, failure: BaseException) -> None:
        kind = (type(failure).__qualname__, getattr(failure, "errno", None))
        with self._lock:
            if kind in self._logged:
                return
            self._logged[kind] = None
            if len(self._logged) > _MAX_KINDS:
                del self._logged[next(iter(self._logged))]
        _logger.warning(
            "monitor %s: %s: %s (this sample is lost, the next interval tries again; %s is 1 once it works. "
            "OTEL_NETMON_MONITORS=-%s switches the monitor off. More failures of this kind are not logged)",
            self.name,
            kind[0],
            failure,
            semconv.MONITOR_SUCCESS.name,
            self.name,
        )


class DirectMonitor(Monitor):
    """A monitor that users also ask directly, from any number of threads at once, each for a result of its own.

    Its measuring methods store points and histories themselves, together and under the lock; ``sample`` calls one.
    """

    def run_once(self) -> bool:
        """``sample()``, timed, with every exception caught; the first of each kind is logged. True on success."""
        return self.guarded(self.sample)[0]
