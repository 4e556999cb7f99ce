"""One collective as it was recorded, and the bounded ring that holds them until they are emitted.

The training thread calls ``begin``, and it or a backend's thread calls ``finish``. Neither takes a lock unless
the ring is full: each changes a dict or a deque by one operation that the interpreter makes atomic, with and
without the GIL. An event belongs to whoever takes it out of those in flight.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from otel_netmon import forks, threads
from otel_netmon.collectives.tally import Tally

if TYPE_CHECKING:
    from otel_netmon.collectives.groups import Group
    from otel_netmon.collectives.operations import Operation

_GONE: Final = object()


class CollectiveEvent:
    """One call of one collective on this rank. Times are nanoseconds of the monotonic clock."""

    __slots__ = (
        "device_bound",
        "device_duration",
        "dtype",
        "end",
        "error",
        "future",
        "group",
        "is_async",
        "is_even",
        "is_late",
        "is_unseen",
        "on_host",
        "operation",
        "reduce_op",
        "sequence",
        "size",
        "span_id",
        "start",
        "tick",
    )

    def __init__(  # noqa: PLR0917 - by position: this runs for every collective
        self,
        operation: Operation,
        group: Group,
        start: int,
        tick: int,
        size: int = 0,
        dtype: Any = None,
        sequence: int | None = None,
        is_async: bool | None = None,
        is_even: bool = True,
        on_host: bool = True,
        reduce_op: str | None = None,
    ) -> None:
        self.operation = operation
        self.group = group
        self.start = start
        self.tick = tick
        """How many step marks had been seen: which step it belongs to is worked out later."""
        self.size = size
        """Bytes of the buffer, as ``operations`` says."""
        self.dtype = dtype
        """torch's; ``None`` when there is no tensor, or tensors of several types."""
        self.sequence = sequence
        """The how-many-eth collective of its group; ``None`` between two ranks."""
        self.is_async = is_async
        self.is_even = is_even
        """False for unequal splits, for which there is no bus bandwidth."""
        self.on_host = on_host
        """False when the tensors are on a device: then ``end`` is not when the transfer ended."""
        self.reduce_op = reduce_op
        """Its name; ``None`` where the seam does not say."""
        self.end: int | None = None
        """``None`` while in flight."""
        self.error: str | None = None
        """Class of the failure; ``None`` on success."""
        self.is_late = False
        """True when the completion was noticed some time after it happened: ``end`` is then only a bound."""
        self.is_unseen = False
        """True while nothing can tell of the end: no future, and nobody waits (gloo's sends and receives)."""
        self.span_id = 0
        """The id that was told for its span before that was made; 0: none was."""
        self.device_duration: int | None = None
        """Nanoseconds on the device, where it was timed."""
        self.device_bound: int | None = None
        """Nanoseconds within which it was done on the device, where only that is known."""
        self.future: Any = None
        """What tells us of the completion, while in flight."""

    @property
    def duration(self) -> int | None:
        """How long the collective took, in nanoseconds; ``None`` where that is not known.

        On a device the host's times are of the call that enqueued it, and tell nothing of the transfer.
        """
        if self.device_duration is not None:
            return self.device_duration
        if self.end is None or self.is_late or not self.on_host:
            return None
        return self.end - self.start


class EventRing:
    """At most ``capacity`` finished events, the oldest going first, and as many in flight.

    What goes is counted, and what the metrics would have said of it is kept in ``tally``.
    """

    def __init__(self, capacity: int) -> None:
        self._lock = threads.RLock()  # reentrant: a signal handler may run on the very thread that holds it
        self._capacity = capacity
        self._finished: deque[CollectiveEvent] = deque()
        self._in_flight: dict[CollectiveEvent, None] = {}
        self._overwritten = 0
        self.tally = Tally()
        forks.register(self)

    def begin(self, event: CollectiveEvent) -> bool:
        """Hold ``event`` as in flight. False when that many already are: it is counted as lost, and not held."""
        if len(self._in_flight) >= self._capacity:
            with self._lock:
                self._overwritten += 1
            return False
        self._in_flight[event] = None
        return True

    def finish(self, event: CollectiveEvent, end: int, error: str | None = None) -> None:
        """Move ``event`` from in flight to finished. A second call for the same event does nothing."""
        if self._in_flight.pop(event, _GONE) is _GONE:
            return  # finished before, or abandoned: its span said so
        event.end = end
        event.error = error
        self._finished.append(event)
        if len(self._finished) > self._capacity:
            self._overwrite()

    def _overwrite(self) -> None:
        with self._lock:
            try:
                event = self._finished.popleft()
            except IndexError:  # drained just now
                return
            self._overwritten += 1
            self.tally.add(event)

    def missed(self, count: int) -> None:
        """Count events that were overwritten before they came here."""
        with self._lock:
            self._overwritten += count

    def drain(self, at_most: int | None = None) -> list[CollectiveEvent]:
        """Take the finished events out, oldest first."""
        events: list[CollectiveEvent] = []
        left = len(self._finished) if at_most is None else at_most
        try:
            while left > 0:
                events.append(self._finished.popleft())
                left -= 1
        except IndexError:
            pass
        return events

    def in_flight(self) -> list[CollectiveEvent]:
        """The events started and not yet finished, oldest first."""
        return list(self._in_flight)

    def abandon(self, which: Callable[[CollectiveEvent], bool] = lambda _: True) -> list[CollectiveEvent]:
        """Take out events in flight: the process, or their job, ends, and they will not finish here."""
        chosen = [event for event in list(self._in_flight) if which(event)]
        return [event for event in chosen if self._in_flight.pop(event, _GONE) is not _GONE]

    def after_fork_in_child(self) -> None:
        """The parent's events are the parent's."""
        self._lock = threads.RLock()
        self._finished.clear()
        self._in_flight.clear()
        self._overwritten = 0
        self.tally = Tally()

    def active(self) -> Counter[tuple[Group, Operation, bool]]:
        """How many are in flight, by group, operation and whether the tensors are on the host."""
        return Counter((event.group, event.operation, event.on_host) for event in list(self._in_flight))

    @property
    def overwritten(self) -> int:
        """Events lost because the ring was full."""
        with self._lock:
            return self._overwritten
