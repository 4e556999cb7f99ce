"""Calls that ended as most do, many at once: nothing is made in Python for each of them.

They have no error, their end was seen, their tensors are on the host, and the steps of their job tie them to those
of the other ranks. All others are events.
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
    """Calls of one operation on one group, that are all even or not: in seconds and bytes. ``kind`` is that of the
    first: the sizes of the others may be different."""

    kind: CollectiveKind
    last_sequence: int
    ends: array[float]
    sizes: array[int]
    durations: array[float]
    in_seconds: Counted
    in_bytes: Counted


class Use(NamedTuple):
    """What calls of one operation on one group add up to; the duration is in nanoseconds."""

    kind: CollectiveKind
    calls: int
    size: int
    duration: int
    last_sequence: int


class Summary(NamedTuple):
    """The calls of a step. Nanoseconds: start of the first; time with at least one in flight; time until the last
    asynchronous one began, without those before that blocked their caller, -1 where none is asynchronous."""

    first: int
    busy: int
    issuing: int
    uses: list[Use]
    places: str
    """Of the first calls by their start, separated by commas: where they are in ``uses``, and in microseconds
    their start after that of the one before (of the first: of the step), and their durations."""
    afters: str
    durations: str


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

    @property
    def kind(self) -> CollectiveKind | None:
        """That of the first."""
        return self._kinds.kinds[self._column(_KIND)[0]]

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
        events = []
        for start, end, sequence, boundary, number in _RECORD.iter_unpack(self._bytes()):
            kind = self._kinds.kinds[number]
            if kind is not None:
                event = CollectiveEvent(kind, start, boundary, sequence)
                event.end = end
                events.append(event)
        return events

    def _bytes(self) -> bytes:
        return self._records[self._first * RECORD_BYTES : (self._first + self._count) * RECORD_BYTES]

    def series(self) -> list[Series]:
        """Added up by operation and group."""
        module, kinds = self._kinds.module, self._kinds.kinds
        return [
            Series(kinds[number], last, array("d", ends), array("q", sizes), array("d", durations), *buckets)
            for number, last, ends, sizes, durations, *buckets in module.series(
                self._records, self._first, self._count
            )
        ]

    def summary(self, start: int, end: int, most: int) -> Summary:
        """Of those of a step from ``start`` to ``end``, ``most`` of them one by one."""
        kinds = self._kinds.kinds
        first, busy, issuing, uses, *texts = self._kinds.module.summary(
            self._records, self._first, self._count, start, end, most
        )
        return Summary(first, busy, issuing, [Use(kinds[number], *sums) for number, *sums in uses], *texts)

    def is_followed_by(self, other: PlainCalls) -> bool:
        """Whether both were taken at once."""
        return self._records is other._records

    def encoder(self, *, is_text: bool) -> PlainEncoder:
        """For these, and all that follow while they are current."""
        return PlainEncoder(self._kinds, self._kinds.module.SpanEncoder(is_text))


def joined(parts: list[PlainCalls]) -> PlainCalls:
    """All of them, which must be current."""
    if len(parts) == 1:
        return parts[0]
    return PlainCalls(parts[0]._kinds, b"".join(each._bytes() for each in parts))


class Below(NamedTuple):
    """Calls whose spans have one parent: the id of the first, which the others follow, and what stands before and
    after an id."""

    calls: PlainCalls
    first_id: int
    before_id: bytes
    after_id: bytes


class Template(NamedTuple):
    """What the spans of a kind have in common: the factor of the bus bandwidth, negative where there is none, and
    what stands before the id, the times, the sequence number, the bandwidths, and at the end."""

    factor: float
    pieces: list[bytes]


class PlainEncoder(NamedTuple):
    """Encodes plain calls in C++, see ``spans.h``; it keeps the templates of ``kinds``."""

    kinds: PlainKinds
    encoder: Any

    def encode(
        self,
        parts: list[Below],
        epoch: int,
        between_times: bytes,
        skipped: int,
        template: Callable[[CollectiveEvent], Template],
    ) -> bytes:
        """The spans of calls that were taken at once, but for so many bytes of the first. ``epoch`` is what makes
        a monotonic time one since 1970, in ns; ``template`` is asked for those of new kinds, by one call of each.
        """
        records = parts[0].calls._records
        below = [(part.calls._first, part.calls._count, *part[1:]) for part in parts]
        spans, missing = self.encoder.encode(records, epoch, between_times, skipped, below)
        if not missing:
            return spans  # type: ignore[no-any-return]  # bytes
        numbers = memoryview(missing).cast("q")[_KIND::_WORDS]
        for number, event in zip(numbers, PlainCalls(self.kinds, missing).events(), strict=True):
            self.encoder.set(number, *template(event))
        return self.encode(parts, epoch, between_times, skipped, template)
