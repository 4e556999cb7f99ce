"""The time slices that a run's traces are cut into, and what is summed up of each on this rank.

A slice is a training step, the setup before the first, or, where nothing marks steps, a window of the clock.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_netmon import semconv
from otel_netmon.job.steps import SETUP, Step, StepMarks

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent

_REMEMBERED: Final = 1024
_MERGE_AT: Final = 4096


class Interval(NamedTuple):
    """One slice: its number among those of its ``kind`` on this rank, and its ``key``, the same on every rank."""

    kind: str
    number: int
    key: str
    """What ids are made of."""


def of_step(index: int, key: str = "") -> Interval:
    """The slice of a step of that number; where no ``key`` ties it to other ranks' steps, the number has to."""
    if index == SETUP:
        return Interval(semconv.SPAN_SETUP, 0, f"{semconv.SPAN_SETUP} 0")
    return Interval(semconv.SPAN_TRAIN_STEP, index, key or str(index))


class IntervalStats:
    """What a rank's collectives in one slice add up to. Times in nanoseconds."""

    __slots__ = ("_busy", "_settled", "count", "first", "last", "size")

    def __init__(self, first: int) -> None:
        self.first = first
        """Start of the first collective."""
        self.last = first
        """End of the latest one that ended."""
        self.count = 0
        self.size = 0
        self._busy: list[tuple[int, int]] = []
        self._settled = 0

    def add(self, event: CollectiveEvent) -> None:
        """Count an event."""
        self.count += 1
        self.size += event.size
        self.first = min(self.first, event.start)
        if event.end is not None:
            self.last = max(self.last, event.end)
            self._busy.append((event.start, event.end))
            if len(self._busy) > _MERGE_AT:
                merged = _merged(self._busy)
                old, self._busy = merged[: -_MERGE_AT // 2], merged[-_MERGE_AT // 2 :]
                self._settled += _total(old)  # events come by their end: nothing more will overlap the oldest

    def busy(self, until: int) -> int:
        """Time with at least one collective in flight, before ``until``."""
        return self._settled + _total(
            (start, min(end, until)) for start, end in _merged(self._busy) if start < until
        )


def _total(intervals: Iterable[tuple[int, int]]) -> int:
    return sum(end - start for start, end in intervals)


def _merged(intervals: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((start, end))
    return merged


def _last_tick(step: tuple[int, Interval]) -> int:
    return step[0]


class StepResolver:
    """Which slice an event belongs to, as the steps' marks become known. Used by one thread."""

    def __init__(self, epoch: int, window: int, token: str = "") -> None:
        self._epoch = epoch
        self._window = window
        """Nanoseconds; 0: no windows."""
        self._token = token
        """What tells this process's windows from those of others, where no rank does."""
        self._steps: deque[tuple[int, Interval]] = deque(maxlen=_REMEMBERED)
        """``(last boundary, slice)`` of the latest steps: an asynchronous collective may outlast its step."""
        self._now = StepMarks([])
        self._windows = False

    def closed(self, step: Step) -> None:
        """A step ended."""
        self._steps.append((step.last_boundary, of_step(step.index, step.key)))

    def now(self, marks: StepMarks, unmarked: int) -> None:
        """Which step is open, and up to which boundary that is certain; for how long nothing has marked a step."""
        self._now = marks
        self._windows = 0 < self._window <= unmarked

    @property
    def open(self) -> Interval:
        """The step that is open."""
        return of_step(self._now.open_step, self._now.open_key)

    def of(self, event: CollectiveEvent) -> Interval | None:
        """The event's slice; ``None`` when it is not known yet."""
        place = bisect_right(self._steps, event.boundary, key=_last_tick)
        if place < len(self._steps):
            return self._steps[place][1]
        if event.boundary <= self._now.settled:
            return self.open
        if self._windows:
            number = (event.start + self._epoch) // self._window
            return Interval(semconv.SPAN_WINDOW, number, f"{semconv.SPAN_WINDOW} {number}{self._token}")
        if event.boundary < self._now.setup_until:
            return of_step(SETUP)
        return None

    def ended(self, period: Interval, now: int) -> bool:
        """Whether ``period`` is a window that is over; ``now`` is monotonic."""
        return period.kind == semconv.SPAN_WINDOW and (period.number + 1) * self._window <= now + self._epoch

    def bounds(self, window: Interval) -> tuple[int, int]:
        """Start and end of a window, monotonic."""
        start = window.number * self._window - self._epoch
        return start, start + self._window
