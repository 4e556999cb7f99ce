"""Records of the native capture made into events."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from otel_netmon import threads
from otel_netmon.capture.aggregator import Key
from otel_netmon.capture.event import CollectiveEvent, CollectiveKind, KindTable, message_in
from otel_netmon.capture.native.loader import RECORD
from otel_netmon.capture.operations import OPERATIONS
from otel_netmon.capture.plain import PlainCalls, PlainKinds
from otel_netmon.job.groups import backend_of

if TYPE_CHECKING:
    from otel_netmon.capture.aggregator import Aggregator
    from otel_netmon.capture.recorder import Recorder
    from otel_netmon.job.groups import Group

_logger = logging.getLogger(__name__)

_KIND: Final = struct.Struct("<QIBbbB")
"""Bytes, group, operation, element type, device type, flags."""
_ASYNC, _ON_HOST, _EVEN = 1, 2, 4
_LATE, _UNSEEN = 1, 2
_ALL: Final = 1 << 62
_MOST_MESSAGES: Final = 256

_OPERATIONS: Final = tuple(OPERATIONS.values())


class NativeSource:
    """What ``EventRing.source`` is. ``group_of`` gives the group of a number, and torch's group where it is still
    there. An event that was seen in flight is the same object when it has ended."""

    def __init__(
        self, module: Any, recorder: Recorder, group_of: Callable[[int], tuple[Group, Any] | None]
    ) -> None:
        self._module = module
        self._recorder = recorder
        self._group_of = group_of
        self._dtypes: list[Any] = module.dtypes()
        self._errors: list[str] = module.ERRORS
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """The parent's events are the parent's."""
        self._lock = threads.RLock()
        self._kinds = KindTable[bytes]()
        self._plain = PlainKinds(self._module)
        self._module.forget_kinds()
        self._seen: dict[int, CollectiveEvent] = {}
        """By ticket, events that were given out while in flight."""
        self._messages: dict[int, bytes] = {}
        self._vanished: set[int] = set()
        """Of those, what had left when the queue was last empty: it comes with the next records, or never."""

    def drain(self, at_most: int | None) -> list[CollectiveEvent]:
        """Take what has ended, oldest first; less than 1 µs each."""
        most = _ALL if at_most is None else at_most
        with self._lock:
            records = self._module.drain(most)
            events = self._ended(records)
            if self._seen and len(records) < most * RECORD.size:
                self._forget()
        return events

    def _ended(self, records: bytes) -> list[CollectiveEvent]:
        events = []
        said: dict[int, bytes] | None = None
        for ticket, start, end, sequence, boundary, kind, error, flags in RECORD.iter_unpack(records):
            event = self._seen.pop(ticket, None) if self._seen else None
            if event is not None:
                event.is_unseen = False
            else:
                event = self._event(kind, start, boundary, sequence)
                if event is None:
                    continue
            event.end = end
            if error:
                event.error = self._errors[error]
                said = self._said() if said is None else said
                event.error_message = message_in(said.pop(ticket, b"").decode(errors="replace"))
            if flags & _LATE:
                event.is_late = True
            events.append(event)
        return events

    def _said(self) -> dict[int, bytes]:
        """By ticket, what calls that failed said and have not been taken out yet."""
        if not self._recorder.ring.keeps_messages:
            return {}
        self._messages |= self._module.messages()
        for oldest in list(self._messages)[:-_MOST_MESSAGES]:
            del self._messages[oldest]
        return self._messages

    def take(self, at_most: int) -> tuple[PlainCalls | None, list[CollectiveEvent]]:
        """As ``drain``, where no events are made of plain calls; some 0.1 µs each."""
        with self._lock:
            named = [ticket for ticket, event in self._seen.items() if event.span_id]
            plain, others = self._module.take_plain(at_most, named)
            events = self._ended(others)
            found = PlainCalls(self._plain, plain) if plain else None
            if found is not None and not self._plain.learn(self._kind):
                those = found.events()
                self._recorder.errors += len(found) - len(those)
                found, events = None, those + events
            if self._seen and len(plain) + len(others) < at_most * RECORD.size:
                self._forget()
            if len(self._plain.kinds) >= self._module.MOST_KINDS:  # sizes may differ with every call
                self._forget_kinds()
        return found, events

    def _forget_kinds(self) -> None:
        self._plain.is_current = False
        self._module.forget_kinds()
        self._plain = PlainKinds(self._module)

    @property
    def waiting(self) -> int:
        """How many have ended and were not taken."""
        return int(self._module.waiting())

    def _forget(self) -> None:
        """Drop events that were overwritten: the queue is empty, twice since they left."""
        flying = {record[0] for record in RECORD.iter_unpack(self._module.in_flight())}
        for ticket in self._vanished - flying:
            self._seen.pop(ticket, None)
        self._vanished = self._seen.keys() - flying

    def in_flight(self) -> list[CollectiveEvent]:
        """What has not ended, in no order."""
        with self._lock:
            events = []
            for ticket, start, _, sequence, boundary, kind, _, flags in RECORD.iter_unpack(
                self._module.in_flight()
            ):
                event = self._seen.get(ticket) or self._event(kind, start, boundary, sequence)
                if event is not None:
                    self._seen[ticket] = event
                    if event.is_unseen != (flags & _UNSEEN != 0):
                        event.is_unseen = not event.is_unseen
                    events.append(event)
        return events

    def abandon(self, which: Callable[[CollectiveEvent], bool]) -> list[CollectiveEvent]:
        """Take out those in flight that will not finish here."""
        with self._lock:
            chosen = {event for event in self.in_flight() if which(event)}
            tickets = [ticket for ticket, event in self._seen.items() if event in chosen]
            return [self._seen.pop(ticket) for ticket in tickets if self._module.abandon(ticket)]

    def _event(self, packed: bytes, start: int, boundary: int, sequence: int) -> CollectiveEvent | None:
        kind = self._kind(packed)
        if kind is None:
            self._recorder.errors += 1
            return None
        return CollectiveEvent(kind, start, boundary, sequence or None)

    def _kind(self, packed: bytes) -> CollectiveKind | None:
        return self._kinds.get(packed) or self._new_kind(packed)

    def _new_kind(self, packed: bytes) -> CollectiveKind | None:
        size, number, operation, dtype, device, flags = _KIND.unpack(packed)
        found = self._group_of(number)
        if found is None:
            return None
        group, process_group = found
        on_host = flags & _ON_HOST != 0
        if not on_host and group.device_backend is None and process_group is not None:
            group.device_backend = backend_of(process_group, self._module.device_name(device))
        kind = self._recorder.kinds[
            _OPERATIONS[operation],
            group,
            size,
            None if dtype < 0 else self._dtypes[dtype],
            flags & _ASYNC != 0,
            flags & _EVEN != 0,
            on_host,
            None,
        ]
        return self._kinds.add(packed, kind)

    @property
    def overwritten(self) -> int:
        """Calls that were lost because the ring was full."""
        return int(self._module.overwritten())

    def sum_up(self, aggregator: Aggregator) -> None:
        """Move what was overwritten to ``aggregator``."""
        for number, operation, on_host, error, seconds, sizes in self._module.tally():
            found = self._group_of(number)
            if found is not None:
                chosen = _OPERATIONS[operation]
                key = Key(found[0], chosen, on_host, self._errors[error] or None)
                aggregator.merge(key, seconds, sizes if chosen.buffer is not None else None)

    def count_errors(self) -> None:
        """Have the recorder count what went wrong in C++; the first is logged."""
        count, first = self._module.take_errors()
        if count:
            if not self._recorder.errors:
                _logger.error(
                    "otel-netmon: a collective was not recorded (%s); further failures are only counted", first
                )
            self._recorder.errors += count
