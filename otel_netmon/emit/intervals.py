"""The intervals that a run's traces are cut into; and the collectives that are a trace each.

An interval is a training step, the setup before the first, or, where nothing marks steps, a window of the clock.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_netmon import semconv
from otel_netmon.job import identity
from otel_netmon.job.steps import SETUP, Step, StepMarks

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent

_REMEMBERED: Final = 1024


class Interval(NamedTuple):
    """Its number among those of its ``kind`` on this rank, and its ``key``, the same on every rank."""

    kind: str
    number: int
    key: str
    """What ids are made of."""


def of_step(index: int, key: str = "") -> Interval:
    """That of a step of that number; where no ``key`` ties it to other ranks' steps, the number has to."""
    if index == SETUP:
        return Interval(semconv.SPAN_SETUP, 0, f"{semconv.SPAN_SETUP} 0")
    return Interval(semconv.SPAN_TRAIN_STEP, index, key or str(index))


def _last_boundary(step: tuple[int, int, str]) -> int:
    return step[0]


class StepResolver:
    """Which interval an event belongs to, as the steps' marks become known. Used by one thread."""

    def __init__(self, epoch: int, window: int, token: str = "") -> None:
        self._epoch = epoch
        self._window = window
        """Nanoseconds; 0: no windows."""
        self._token = token
        """What tells this process's windows from those of others, where no rank does."""
        self._steps: deque[tuple[int, int, str]] = deque(maxlen=_REMEMBERED)
        """Last boundary, number and key of the latest steps: an asynchronous collective may outlast its step. Not
        as intervals: plain tuples of such values are none of the garbage collector's business."""
        self._now = StepMarks([])
        self.has_windows = False
        """Whether what is in no step is in a window."""

    def closed(self, step: Step) -> None:
        """A step ended."""
        self._steps.append((step.last_boundary, step.index, step.key))

    def now(self, marks: StepMarks, unmarked: int) -> None:
        """Which step is open, and up to which boundary that is certain; for how long nothing has marked a step."""
        self._now = marks
        self.has_windows = 0 < self._window <= unmarked

    @property
    def open(self) -> Interval:
        """The step that is open."""
        return of_step(self._now.open_step, self._now.open_key)

    def at(self, now: int) -> Interval:
        """What is open at this time (monotonic): a window, or a step."""
        return self._window_at(now) if self.has_windows else self.open

    def _window_at(self, time: int) -> Interval:
        number = (time + self._epoch) // self._window
        return Interval(semconv.SPAN_WINDOW, number, f"{semconv.SPAN_WINDOW} {number}{self._token}")

    def reader(self) -> Callable[[CollectiveEvent], Interval | None]:
        """``of``, for many events until the next marks: it looks up each boundary once."""
        known: dict[int, Interval] = {}

        def interval_of(event: CollectiveEvent) -> Interval | None:
            interval = known.get(event.boundary)
            if interval is None:
                interval = self.of(event)
                if interval is not None and interval.kind != semconv.SPAN_WINDOW:
                    known[event.boundary] = interval
            return interval

        return interval_of

    def of(self, event: CollectiveEvent) -> Interval | None:
        """The event's interval; ``None`` when it is not known yet."""
        interval = self.of_step_at(event.boundary)
        return self._window_at(event.start) if interval is None and self.has_windows else interval

    def of_step_at(self, boundary: int) -> Interval | None:
        """The step, or setup, of what began when so many boundaries had passed; ``None`` when it is not known yet,
        or a window."""
        place = bisect_right(self._steps, boundary, key=_last_boundary)
        if place < len(self._steps):
            return of_step(*self._steps[place][1:])
        if boundary <= self._now.settled:
            return self.open
        return of_step(SETUP) if boundary < self._now.setup_until and not self.has_windows else None

    def ended(self, interval: Interval, now: int) -> bool:
        """Whether ``interval`` is a window that is over; ``now`` is monotonic."""
        return interval.kind == semconv.SPAN_WINDOW and (interval.number + 1) * self._window <= now + self._epoch

    def bounds(self, window: Interval) -> tuple[int, int]:
        """Start and end of a window, monotonic."""
        start = window.number * self._window - self._epoch
        return start, start + self._window


class Tie(NamedTuple):
    """Where the span of one stands: each collective is a trace of its own, of which the span of the group's first
    rank is the root."""

    trace_id: int
    root_id: int
    is_root: bool
    number: int
    """From 0."""


def tied_by_group(event: CollectiveEvent) -> Tie | None:
    """Of an event of a foreign group; ``None`` where the step ties it to those of the other ranks."""
    group, number = event.group, event.sequence
    run_id = None if group.run_id is None else group.run_id.value
    if run_id is None or number is None:
        return None
    key = f"{group.name} {number}"
    return Tie(identity.trace_id(run_id, key), identity.root_id(run_id, key), group.rank == 0, number - 1)
