"""Collectives that wait for their interval to be known, and for who they belong to."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.capture.plain import PlainCalls
    from otel_netmon.emit.intervals import Interval, StepResolver
    from otel_netmon.threads import Pace

_AT_ONCE: Final = 256
"""Events that are looked at in one go."""


class Waiting:
    """At most ``most`` of them; the oldest go first. Used by one thread at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._new: deque[CollectiveEvent] = deque()
        """Not looked at yet."""
        self._events: deque[CollectiveEvent] = deque()
        """Of no interval that was known when they were looked at."""
        self._again = False
        self._plain: deque[tuple[int, PlainCalls]] = deque()
        """Of a step each, with its boundary."""
        self._plain_count = 0

    def __len__(self) -> int:
        return len(self._events) + len(self._new) + self._plain_count

    def add(self, events: list[CollectiveEvent]) -> int:
        """Keep some; how many went for that."""
        self._new.extend(events)
        return self._bounded()

    def look_again(self) -> None:
        """There are new marks: what was of no known interval may be of one now."""
        self._again = True

    def add_plain(self, calls: PlainCalls) -> int:
        """The same of plain calls."""
        self._plain.extend(calls.steps())
        self._plain_count += len(calls)
        return self._bounded()

    def _bounded(self) -> int:
        lost = 0
        while len(self) > self._most:
            if self._plain:
                _, calls = self._plain.popleft()
                self._plain_count -= len(calls)
                lost += len(calls)
            else:
                (self._events or self._new).popleft()
                lost += 1
        return lost

    def take_known(
        self, intervals: StepResolver, pace: Pace, *, last_call: bool
    ) -> tuple[dict[Interval, list[CollectiveEvent]], list[tuple[Interval, PlainCalls]]]:
        """Those whose interval is known, taken out. With ``last_call`` no id is waited for."""
        plain = self._take_plain(intervals)
        events = [*self._events, *self._new] if self._again or last_call else list(self._new)
        if self._again or last_call:
            self._events.clear()
        self._again = False
        self._new.clear()
        known: dict[Interval, list[CollectiveEvent]] = {}
        interval_of = intervals.reader()
        for some in pace.pieces(events, _AT_ONCE):
            for event in some:
                interval = interval_of(event)
                of_group = event.kind.group.run_id
                if interval is None or (of_group is not None and of_group.resolve(last_call=last_call) is None):
                    self._events.append(event)
                else:
                    known.setdefault(interval, []).append(event)
        return known, plain

    def _take_plain(self, intervals: StepResolver) -> list[tuple[Interval, PlainCalls]]:
        known: list[tuple[Interval, PlainCalls]] = []
        waiting, self._plain, self._plain_count = self._plain, deque(), 0
        for boundary, calls in waiting:
            interval = intervals.of_step_at(boundary)
            if calls.is_current and interval is not None:
                known.append((interval, calls))
            elif calls.is_current and not intervals.has_windows:
                self._plain.append((boundary, calls))
                self._plain_count += len(calls)
            else:  # in a window each has to be looked at
                self._new.extend(calls.events())
        return known
