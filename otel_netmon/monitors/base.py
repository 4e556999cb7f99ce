"""What every monitor has: a lock, one sample at a time from outside, health, and its series.

The rule of the house: I/O happens before the lock is taken; under the lock state is only read or swapped. So a
reader or an exporter's callback never waits longer than for a few assignments.
"""

from __future__ import annotations

import abc
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

from opentelemetry.metrics import Histogram, Observation

from otel_netmon import forks, semconv, threads
from otel_netmon.internals.otel_internals import forget
from otel_netmon.monitors import observers

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")
_MAX_KINDS: Final = 32  # kinds of failure remembered as logged, per monitor; then the oldest is said again

HISTORY: Final = 100
"""Entries kept in a monitor's history."""

Series = tuple[semconv.Metric, Callable[[], Iterable[Observation]]]
"""A metric and what reads its present value from the monitor's state, called with the lock held."""


class Monitor(abc.ABC):
    """One source of measurements. Subclasses give ``name``, ``sample`` and ``series``."""

    name: ClassVar[str]
    """Short, unique; the value of the attribute of its health series."""

    probes: ClassVar[bool] = False
    """True when a sample sends something: its first one is delayed by a random part of the interval."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._lock = threads.RLock()
        self._clock = clock
        self._success: bool | None = None
        self._duration: float | None = None
        self._sampled_at: float | None = None
        self._logged: dict[tuple[str, object], None] = {}
        self._sampling = False
        forks.register(self)

    @abc.abstractmethod
    def sample(self) -> None:
        """Measure once and swap the result in. May do I/O and may raise; ``run_once`` is what schedules call."""

    @abc.abstractmethod
    def series(self) -> tuple[Series, ...]:
        """The observable metrics of this monitor, without those of its health."""

    def register(self, meter: Meter) -> None:
        """Create this monitor's instruments with ``meter``, until ``unregister()``.

        Their callbacks read state under the lock: some microseconds each, no I/O, no exception.
        """
        for metric, observe in (*self.series(), *self._health()):
            observers.add(meter, self, metric, self._guarded(observe))

    def unregister(self) -> None:
        """Report nothing more through any meter. Measuring by hand, and ``register``, still work."""
        observers.remove(self)

    def run_once(self) -> bool:
        """``sample()``, timed, with every exception caught; the first of each kind is logged. True on success."""
        return self._guard(self.sample)[0]

    def _guard(self, measure: Callable[[], _T]) -> tuple[bool, _T | None]:
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

    @contextlib.contextmanager
    def _turn(self) -> Iterator[bool]:
        """Whether this thread may sample now: not while another one does, whose result then counts for both.

        For monitors that keep sums of differences, which readings in another order would falsify.
        """
        with self._lock:
            mine = not self._sampling
            self._sampling = True
        try:
            yield mine
        finally:
            if mine:
                with self._lock:
                    self._sampling = False

    def _log_once(self, failure: Exception) -> None:
        kind = (type(failure).__qualname__, getattr(failure, "errno", None))
        with self._lock:
            if kind in self._logged:
                return
            self._logged[kind] = None
            if len(self._logged) > _MAX_KINDS:
                del self._logged[next(iter(self._logged))]
        _logger.warning(
            "monitor %s: %s: %s (said once; %s tells how it goes on)",
            self.name,
            kind[0],
            failure,
            semconv.MONITOR_SUCCESS.name,
        )

    def _guarded(self, observe: Callable[[], Iterable[Observation]]) -> observers.Observe:
        def read() -> Iterable[Observation]:
            try:
                with self._lock:
                    return list(observe())
            except Exception as error:  # noqa: BLE001  # one series must not cost the others their export
                self._log_once(error)
                return ()

        return read

    def _health(self) -> tuple[Series, ...]:
        attributes = {semconv.MONITOR_NAME: self.name}

        def one(value: float | None) -> Iterable[Observation]:
            return () if value is None else (Observation(value, attributes),)

        return (
            (semconv.MONITOR_SUCCESS, lambda: one(None if self._success is None else int(self._success))),
            (semconv.MONITOR_DURATION, lambda: one(self._duration)),
            (
                semconv.MONITOR_AGE,
                lambda: one(None if self._sampled_at is None else self._clock() - self._sampled_at),
            ),
        )

    def after_fork_in_child(self) -> None:
        """Replace what a thread of the parent may have held; called in a forked child, alone."""
        self._lock = threads.RLock()
        self._sampling = False
        self._success = self._duration = self._sampled_at = None  # of the parent's samples
        self._logged = {}


class ProbingMonitor(Monitor):
    """A monitor that sends something and records how long each answer took, in the histogram ``recorded``."""

    probes: ClassVar[bool] = True
    recorded: ClassVar[semconv.Metric]

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock=clock)
        self._histogram: Histogram | None = None

    def register(self, meter: Meter) -> None:
        """As every monitor; and every round fills the histogram, outside the lock."""
        super().register(meter)
        histogram = semconv.create(meter, self.recorded)
        assert isinstance(histogram, Histogram)
        with self._lock:
            self._histogram = histogram

    def unregister(self) -> None:
        """As every monitor."""
        super().unregister()
        with self._lock:
            self._histogram = None

    def after_fork_in_child(self) -> None:
        super().after_fork_in_child()
        if self._histogram is not None:
            forget(self._histogram)
        self._histogram = None
