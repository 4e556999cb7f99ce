"""The bounded ring that holds collectives until they are emitted.

The training thread calls ``begin``, and it or a backend's thread calls ``finish``. Neither takes a lock unless
the ring is full: each changes a dict or a deque by one operation that the interpreter makes atomic, with and
without the GIL. An event belongs to whoever takes it out of those in flight.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from otel_netmon import forks, threads
from otel_netmon.capture.aggregator import Aggregator

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent, Failure
    from otel_netmon.capture.operations import Operation
    from otel_netmon.capture.plain import PlainCalls
    from otel_netmon.job.groups import Group

_GONE: Final = object()
_CALLBACK_WAIT: Final = 1.0
_COMPLETION_WAIT: Final = 0.05


class EventSource(Protocol):
    """Another place where events are held, in the same bounds."""

    def drain(self, at_most: int | None) -> list[CollectiveEvent]: ...
    def take(self, at_most: int) -> tuple[PlainCalls | None, list[CollectiveEvent]]: ...
    def in_flight(self) -> list[CollectiveEvent]: ...
    def abandon(self, which: Callable[[CollectiveEvent], bool]) -> list[CollectiveEvent]: ...
    def sum_up(self, aggregator: Aggregator) -> None:
        """Move what it has counted of overwritten events to ``aggregator``."""

    @property
    def overwritten(self) -> int: ...
    @property
    def waiting(self) -> int: ...


class EventRing:
    """At most ``capacity`` finished events, the oldest going first, and as many in flight.

    What goes is counted, and summed up in ``aggregator`` for the metrics. Events of ``source``, if there is one,
    are in all that this gives.
    """

    def __init__(self, capacity: int, *, keeps_messages: bool = True) -> None:
        """``keeps_messages``: whether events of collectives that failed have what the failure says."""
        self.capacity = capacity
        self.keeps_messages = keeps_messages
        self.source: EventSource | None = None
        self.after_fork_in_child()
        forks.register(self)

    def after_fork_in_child(self) -> None:
        """Begin empty: the parent's events are the parent's."""
        self._lock = threads.RLock()  # reentrant: a signal handler may run on the very thread that holds it
        self._finished: deque[CollectiveEvent] = deque()
        self.flying: dict[CollectiveEvent, None] = {}
        self._overwritten = 0
        self._aggregator = Aggregator()

    @property
    def aggregator(self) -> Aggregator:
        """What was overwritten."""
        if self.source is not None:
            self.source.sum_up(self._aggregator)
        return self._aggregator

    def begin(self, event: CollectiveEvent) -> bool:
        """Hold ``event`` as in flight. False when that many already are: it is counted as lost, and not held."""
        if len(self.flying) >= self.capacity:
            with self._lock:
                self._overwritten += 1
            return False
        self.flying[event] = None
        return True

    def finish(self, event: CollectiveEvent, end: int, failure: Failure | None = None) -> None:
        """Move ``event`` from in flight to finished. A second call for the same event does nothing."""
        if self.flying.pop(event, _GONE) is _GONE:
            return  # finished before, or abandoned
        event.end = end
        if failure is not None:
            event.error = failure.type
            if self.keeps_messages:
                event.error_message = failure.message
        self._finished.append(event)
        if len(self._finished) > self.capacity:
            self._overwrite()

    def _overwrite(self) -> None:
        with self._lock:
            try:
                event = self._finished.popleft()
            except IndexError:  # drained just now
                return
            self._overwritten += 1
            self._aggregator.add(event)

    def missed(self, count: int) -> None:
        """Count events that were overwritten before they came here."""
        with self._lock:
            self._overwritten += count

    def drain(self, at_most: int | None = None) -> list[CollectiveEvent]:
        """Take the finished events out, oldest first."""
        events = [] if self.source is None else self.source.drain(at_most)
        return self._drain_to(events, None if at_most is None else at_most - len(events))

    def take(self, at_most: int) -> tuple[PlainCalls | None, list[CollectiveEvent]]:
        """As ``drain``, where those that ``source`` need not make events of are not in the list."""
        plain, events = (None, []) if self.source is None else self.source.take(at_most)
        return plain, self._drain_to(events, at_most - len(events) - (0 if plain is None else len(plain)))

    def _drain_to(self, events: list[CollectiveEvent], at_most: int | None) -> list[CollectiveEvent]:
        with contextlib.suppress(IndexError):
            most = len(self._finished) if at_most is None else at_most
            events.extend(self._finished.popleft() for _ in range(most))
        return events

    @property
    def waiting(self) -> int:
        """How many have ended and were not taken out."""
        return len(self._finished) + (0 if self.source is None else self.source.waiting)

    def in_flight(self) -> list[CollectiveEvent]:
        """The events started and not yet finished, oldest first."""
        events = list(self.flying)
        if self.source is not None:
            events += self.source.in_flight()
            events.sort(key=lambda event: event.start)
        return events

    def await_callbacks(self) -> None:
        """Let those in flight that did complete say so: C++ callers go on before a future's callbacks ran. Waits
        for a second at most."""
        since = time.monotonic()
        while in_flight := self.in_flight():
            completed = any(event.future is not None and event.future.done() for event in in_flight)
            if time.monotonic() - since > (_CALLBACK_WAIT if completed else _COMPLETION_WAIT):
                break
            time.sleep(0.001)

    def abandon(self, which: Callable[[CollectiveEvent], bool] = lambda _: True) -> list[CollectiveEvent]:
        """Take out events in flight: the process, or their job, ends, and they will not finish here."""
        chosen = [event for event in list(self.flying) if which(event)]
        events = [event for event in chosen if self.flying.pop(event, _GONE) is not _GONE]
        return events if self.source is None else events + self.source.abandon(which)

    def active(self) -> Counter[tuple[Group, Operation, bool]]:
        """How many are in flight, by group, operation and whether the tensors are on the host."""
        return Counter((event.group, event.operation, event.on_host) for event in self.in_flight())

    @property
    def overwritten(self) -> int:
        """Events lost because the ring was full."""
        with self._lock:
            count = self._overwritten
        return count if self.source is None else count + self.source.overwritten
