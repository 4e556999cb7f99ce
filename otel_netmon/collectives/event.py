"""One collective as it was recorded, and the bounded ring that holds them until they are emitted.

The training thread calls ``begin`` and the completion callback calls ``finish``. Each takes one lock for a few
hundred nanoseconds; no I/O, no span, no metric happens under it. The lock is reentrant because a signal handler
or a garbage-collector callback may run on the very thread that holds it.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_netmon.collectives.groups import Group
    from otel_netmon.collectives.operations import Operation


class CollectiveEvent:
    """One call of one collective on this rank. Times are nanoseconds of the monotonic clock."""

    __slots__ = (
        "dtype",
        "elements",
        "end",
        "error",
        "future",
        "group",
        "is_async",
        "is_even",
        "on_host",
        "operation",
        "reduce_op",
        "sequence",
        "size",
        "start",
        "tick",
    )

    def __init__(self, operation: Operation, group: Group, start: int, tick: int) -> None:
        self.operation = operation
        self.group = group
        self.start = start
        self.tick = tick
        """How many step marks had been seen: which step it belongs to is worked out later."""
        self.end: int | None = None
        """``None`` while in flight."""
        self.error: str | None = None
        """Class of the failure; ``None`` on success."""
        self.future: Any = None
        """What tells us of the completion, while in flight."""
        self.sequence: int | None = None
        """The how-many-eth collective of its group; ``None`` between two ranks."""
        self.size = 0
        """Bytes of the buffer, as ``operations`` says."""
        self.elements = 0
        self.dtype: str | None = None
        self.reduce_op: Any = None
        """As torch handed it over; read in the background."""
        self.is_async: bool | None = None
        self.is_even = True
        """False for unequal splits, for which there is no bus bandwidth."""
        self.on_host = True
        """False when the tensors are on a device: then ``end`` is not when the transfer ended."""


class EventRing:
    """At most ``capacity`` finished events, the oldest going first, and as many in flight. Losses are counted."""

    def __init__(self, capacity: int) -> None:
        self._lock = threading.RLock()
        self._capacity = capacity
        self._finished: deque[CollectiveEvent] = deque()
        self._in_flight: dict[CollectiveEvent, None] = {}
        self._overwritten = 0

    def begin(self, event: CollectiveEvent) -> bool:
        """Hold ``event`` as in flight. False when that many already are: it is counted as lost, and not held."""
        with self._lock:
            if len(self._in_flight) >= self._capacity:
                self._overwritten += 1
                return False
            self._in_flight[event] = None
            return True

    def finish(self, event: CollectiveEvent, end: int, error: str | None) -> None:
        """Move ``event`` from in flight to finished. A second call for the same event does nothing."""
        with self._lock:
            if event.end is not None:
                return
            event.end = end
            event.error = error
            if self._in_flight.pop(event, event) is event:
                return  # abandoned: its span said so
            if len(self._finished) >= self._capacity:
                self._finished.popleft()
                self._overwritten += 1
            self._finished.append(event)

    def drain(self, at_most: int | None = None) -> list[CollectiveEvent]:
        """Take the finished events out, oldest first."""
        with self._lock:
            if at_most is None or at_most >= len(self._finished):
                events = list(self._finished)
                self._finished.clear()
            else:
                events = [self._finished.popleft() for _ in range(at_most)]
            return events

    def in_flight(self) -> list[CollectiveEvent]:
        """The events started and not yet finished, oldest first."""
        with self._lock:
            return list(self._in_flight)

    def abandon(self) -> list[CollectiveEvent]:
        """Take out the events in flight: the process ends, and they will not finish here."""
        with self._lock:
            events = list(self._in_flight)
            self._in_flight.clear()
            return events

    def clear_after_fork(self) -> None:
        """In a forked child: the parent's events are the parent's, and its lock may be held for ever."""
        self._lock = threading.RLock()
        self._finished.clear()
        self._in_flight.clear()
        self._overwritten = 0

    def active(self) -> Counter[tuple[Group, Operation, bool]]:
        """How many are in flight, by group, operation and whether the tensors are on the host."""
        with self._lock:
            return Counter((event.group, event.operation, event.on_host) for event in self._in_flight)

    @property
    def overwritten(self) -> int:
        """Events lost because the ring was full."""
        with self._lock:
            return self._overwritten
