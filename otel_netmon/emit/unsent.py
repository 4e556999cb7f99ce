"""The last collectives of a step that makes no spans of them: if one fails, they are told after all."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.capture.plain import PlainCalls
    from otel_netmon.emit.intervals import Interval


def has_failed(event: CollectiveEvent) -> bool:
    """Whether it ended with an error, or never."""
    return event.error is not None or event.end is None


class Unsent:
    """At most ``most`` of them, and of one interval, the latest. Used by one thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._interval: Interval | None = None
        self._events: deque[CollectiveEvent] = deque(maxlen=most)
        self._plain: deque[PlainCalls] = deque()

    def add(self, interval: Interval, events: Iterable[CollectiveEvent]) -> None:
        """Keep some."""
        self._of(interval)
        self._events.extend(events)

    def add_plain(self, interval: Interval, calls: PlainCalls) -> None:
        """Keep some plain ones, as they are."""
        self._of(interval)
        self._plain.append(calls)
        while sum(map(len, self._plain)) - len(self._plain[0]) >= self._most:
            self._plain.popleft()

    def take(self, interval: Interval) -> Sequence[CollectiveEvent]:
        """Those of an interval, and forget them."""
        self._of(interval)
        found = [event for calls in self._plain for event in calls.events()]
        found = sorted([*found, *self._events], key=lambda event: event.start)[-self._most :]
        self._plain.clear()
        self._events.clear()
        return found

    def _of(self, interval: Interval) -> None:
        if interval != self._interval:
            self._interval = interval
            self._events.clear()
            self._plain.clear()
