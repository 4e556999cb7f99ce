"""Calls that ended as most do, many at once: nothing is made in Python for each of them.

They have no error, their end was seen, their tensors are on the host, and the steps of their job tie them to those of
the other ranks. All others are events.
"""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from otel_netmon.capture.event import CollectiveEvent

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveKind

RECORD_BYTES: Final = 64
_WORDS: Final = 8
_BOUNDARY, _KIND = 4, 6
"""Their words in a record, see ``record.h``; that of the kind holds its number."""
_RECORD: Final = struct.Struct("<8xqqqq8xQ8x")
"""Start, end, sequence, boundary, number of the kind."""

Counted: TypeAlias = "tuple[list[int], list[float], float, float]"
"""Of a distribution: counts and sums per bucket, the least and the greatest."""


class Series(NamedTuple):
    """Calls of one operation on one group: sums, and the times of each in nanoseconds. ``kind`` is that of the
    first: the sizes of the others may be different."""

    kind: CollectiveKind
    size: int
    duration: int
    last_sequence: int
    starts: array[int]
    ends: array[int]
    durations: array[int]
    sizes: array[int]
    seconds: Counted
    bytes: Counted


class Around(NamedTuple):
    """What spans that are below one parent have in common, but for their kinds: see ``SpanFormat``."""

    first_id: int
    """The ids of the others follow."""
    epoch: int
    """What makes a monotonic time one since 1970, in nanoseconds."""
    before_id: bytes
    after_id: bytes
    between_times: bytes


class PlainKinds:
    """The kinds of plain calls by their numbers, which ``module`` gives them. Used by one thread at a time."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.kinds: list[CollectiveKind | None] = []
        """``None`` for those of a group of which nothing is known."""
        self.is_current = True
        """Whether the module still knows these numbers."""

    def learn(self, kind_of: Callable[[bytes], CollectiveKind | None]) -> bool:
        """Look up those that are new. False where some of them have to be events; their next calls will be."""
        are_plain = True
        for number in range(len(self.kinds), self.module.plain_kinds()):
            kind = kind_of(self.module.plain_kind(number))
            self.kinds.append(kind)
            if kind is None or kind.group.run_id is not None:  # each is a trace of its own: no step ties them
                self.module.exclude_kind(number)
                are_plain = False
        return are_plain


class PlainCalls:
    """Some of them, by step; nobody changes them. As many events as ``events`` gives."""

    def __init__(self, kinds: PlainKinds, records: bytes, first: int = 0, count: int | None = None) -> None:
        self._kinds = kinds
        self._records = records
        self._first = first
        self._count = len(records) // RECORD_BYTES if count is None else count

    def __len__(self) -> int:
        return self._count

    @property
    def is_current(self) -> bool:
        """Whether ``series`` and ``encode`` may be used; else ``events`` has to."""
        return self._kinds.is_current

    def _column(self, word: int) -> memoryview:
        words = memoryview(self._records).cast("q")
        return words[self._first * _WORDS + word : (self._first + self._count) * _WORDS : _WORDS]

    def kinds(self) -> list[CollectiveKind]:
        """Those that occur."""
        found = [self._kinds.kinds[number] for number in set(self._column(_KIND))]
        return [kind for kind in found if kind is not None]

    def steps(self) -> Iterator[tuple[int, PlainCalls]]:
        """Those of each step, with the boundary that is theirs."""
        first = self._first
        for boundary, count in Counter(self._column(_BOUNDARY)).items():
            yield boundary, self.part(first - self._first, count)
            first += count

    def part(self, first: int, count: int) -> PlainCalls:
        """Some that follow one another."""
        return PlainCalls(self._kinds, self._records, self._first + first, min(count, self._count - first))

    def events(self) -> list[CollectiveEvent]:
        """The same as events, but for those of unknown groups."""
        start = self._first * RECORD_BYTES
        return self._events(memoryview(self._records)[start : start + self._count * RECORD_BYTES])

    def _events(self, records: memoryview | bytes) -> list[CollectiveEvent]:
        events = []
        for start, end, sequence, boundary, number in _RECORD.iter_unpack(records):
            kind = self._kinds.kinds[number]
            if kind is not None:
                event = CollectiveEvent(kind, start, boundary, sequence)
                event.end = end
                events.append(event)
        return events

    def series(self, *, with_buckets: bool = False) -> list[Series]:
        """Added up by operation and group."""
        rows = self._kinds.module.series(self._records, self._first, self._count, with_buckets)
        return [
            Series(self._kinds.kinds[number], *sums, *(array("q", column) for column in columns), seconds, sizes)
            for number, *sums, columns, seconds, sizes in rows
        ]

    def encoder(self, *, is_text: bool) -> PlainEncoder:
        """For these, and all that follow while they are current."""
        return PlainEncoder(self._kinds, self._kinds.module.SpanEncoder(is_text))

    def encode(
        self, encoder: PlainEncoder, around: Around, template: Callable[[CollectiveEvent], Template]
    ) -> bytes:
        """Their spans, by ``encoder``; ``template`` is asked for those of new kinds, by one call of each."""
        spans, missing = encoder.encoder.encode(self._records, self._first, self._count, *around)
        if not missing:
            return spans  # type: ignore[no-any-return]  # bytes
        for number, event in zip(memoryview(missing).cast("q")[_KIND::_WORDS], self._events(missing), strict=True):
            encoder.encoder.set(number, *template(event))
        return self.encode(encoder, around, template)


class Template(NamedTuple):
    """What the spans of a kind have in common: the factor of the bus bandwidth, negative where there is none, and
    what stands before the id, the times, the sequence number, the bandwidths, and at the end."""

    factor: float
    pieces: tuple[bytes, bytes, bytes, bytes, bytes, bytes]


class PlainEncoder(NamedTuple):
    """Encodes plain calls in C++, see ``spans.h``; it keeps the templates of ``kinds``."""

    kinds: PlainKinds
    encoder: Any
