"""What is summed up of the collectives of a step, a setup or a window on this rank."""

from __future__ import annotations

import functools
from array import array
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_netmon.capture.plain import joined
from otel_netmon.covered import covered
from otel_netmon.records import Call, GroupUse
from otel_netmon.schema import MOST_CALLS, packed_calls
from otel_netmon.threads import Pace

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.capture.plain import PlainCalls
    from otel_netmon.job.groups import Group

_MERGE_AT: Final = 4096
_AT_ONCE: Final = 512
_MOST_GROUPS: Final = 64
_UNKNOWN: Final = -1
_NEVER: Final = 1 << 62
_call: Final = functools.partial(tuple.__new__, Call)
"""``Call._make`` in a third of its time."""


class Sums(NamedTuple):
    """What collectives add up to. Nanoseconds, and of the first ones all."""

    first: int
    """Start of the first one."""
    call_count: int
    size: int
    busy: int
    issuing: int | None
    """From the start until the last asynchronous one began, without those before that blocked their caller."""
    groups: tuple[GroupUse, ...]
    calls: Any
    """A tuple of ``Call``, or that packed."""


class IntervalStats:
    """What a rank's collectives in one interval add up to, and the first ones one by one. Times in nanoseconds.

    Used by one thread, which keeps the ``pace``: summing up thousands takes milliseconds.
    """

    __slots__ = (
        *(
            "_blocked_from",
            "_blocked_until",
            "_busy_from",
            "_busy_until",
            "_durations",
            "_groups",
            "_issued",
            "_kind",
            "_kinds",
            "_pace",
            "_plain",
            "_settled",
            "_starts",
        ),
        *("count", "first", "size"),
    )

    def __init__(self, pace: Pace | None = None) -> None:
        self._pace = pace or Pace()
        self.first = _NEVER
        """Start of the first collective."""
        self.count = 0
        self.size = 0
        self._busy_from, self._busy_until = array("q"), array("q")
        self._settled = 0
        self._issued = _UNKNOWN
        """Start of the last one that is asynchronous."""
        self._blocked_from, self._blocked_until = array("q"), array("q")
        """Of the first ones that are not."""
        self._groups: dict[str, list[int]] = {}
        """By name: calls, bytes, calls with a known duration, their sum, the last sequence number, ranks."""
        self._kinds: dict[tuple[str, str], int] = {}
        self._kind, self._starts, self._durations = array("q"), array("q"), array("q")
        self._plain: list[PlainCalls] = []
        """Not in any of the others yet."""

    def add(self, events: Iterable[CollectiveEvent]) -> None:
        """Count some events; some 0.7 µs each."""
        groups, kinds, starts, durations = self._groups, self._kinds, self._starts, self._durations
        room = MOST_CALLS - len(starts)
        for event in events:
            kind, start, end, duration, number = event.kind, event.start, event.end, event.duration, event.sequence
            group, size = kind.group, kind.size
            self.count += 1
            self.size += size
            if start < self.first:  # noqa: PLR1730 - for every collective: min() takes twice as long
                self.first = start
            name = group.name
            use = groups.get(name)
            if use is None and len(groups) < _MOST_GROUPS:
                use = groups[name] = [0, 0, 0, 0, 0, group.size]
            if use is not None:
                use[0] += 1
                use[1] += size
                if duration is not None:
                    use[2] += 1
                    use[3] += duration
                if number is not None and number > use[4]:
                    use[4] = number
            if room > 0:
                room -= 1
                self._kind.append(kinds.setdefault((kind.operation.name, name), len(kinds)))
                starts.append(start)
                durations.append(_UNKNOWN if duration is None else duration)
            if kind.is_async:
                self._issued = max(self._issued, start)
            elif end is not None and len(self._blocked_from) <= _MERGE_AT:
                self._blocked_from.append(start)
                self._blocked_until.append(end)
            if end is not None:
                self._busy_from.append(start)
                self._busy_until.append(end)
        self._settle()

    def add_plain(self, calls: PlainCalls) -> None:
        """Count plain calls: kept as they are until they are summed up."""
        self._plain.append(calls)
        if sum(map(len, self._plain)) > _MERGE_AT:
            self._unfold()

    def _unfold(self) -> None:
        """Make events of what was kept."""
        plain, self._plain = self._plain, []
        for calls in plain:
            self.add(calls.events())

    def sums(self, start: int, end: int) -> Sums:
        """All of it, in an interval with these bounds."""
        if self._plain and (self.count or not all(calls.is_current for calls in self._plain)):
            self._unfold()
        if self._plain:
            return _plain_sums(joined(self._plain), start, end)
        since = min(self.first, start)
        issuing = self._issuing(since)
        return Sums(self.first, self.count, self.size, self.busy(end), issuing, self.groups(), self.calls(since))

    def _settle(self) -> None:
        if len(self._busy_from) > _MERGE_AT:
            merged = self._merged()
            # events come by their end: nothing more will overlap the oldest
            self._settled += sum(end - start for start, end in merged[: -_MERGE_AT // 2])
            recent = merged[-_MERGE_AT // 2 :]
            self._busy_from = array("q", (start for start, _ in recent))
            self._busy_until = array("q", (end for _, end in recent))

    def groups(self) -> tuple[GroupUse, ...]:
        """What was done on each group; of at most some of them."""
        return tuple(
            GroupUse(name, calls, size, total // 1000 if known else None, last or None, ranks or None)
            for name, (calls, size, known, total, last, ranks) in self._groups.items()
        )

    def calls(self, start: int) -> tuple[Call, ...]:
        """The first ones, by their start; ``start`` is where their interval begins."""
        names = list(self._kinds)
        rows = [
            (*names[kind], (begun - start) // 1000, None if duration == _UNKNOWN else duration // 1000)
            for begun, kind, duration in sorted(zip(self._starts, self._kind, self._durations, strict=True))
        ]
        return tuple(map(_call, rows))

    def busy(self, until: int) -> int:
        """Time with at least one collective in flight, before ``until``."""
        return self._settled + covered(zip(self._busy_from, self._busy_until, strict=True), until)

    def _issuing(self, start: int) -> int | None:
        """See ``Sums``; not known where more of them blocked their caller than are remembered."""
        last = self._issued
        if last == _UNKNOWN or len(self._blocked_from) > _MERGE_AT:
            return None
        return last - start - covered(zip(self._blocked_from, self._blocked_until, strict=True), last)

    def _merged(self) -> list[tuple[int, int]]:
        merged: list[tuple[int, int]] = []
        for some in self._pace.pieces(sorted(zip(self._busy_from, self._busy_until, strict=True)), _AT_ONCE):
            for start, end in some:
                if merged and start <= merged[-1][1]:
                    merged[-1] = merged[-1][0], max(end, merged[-1][1])
                else:
                    merged.append((start, end))
        return merged


def _plain_sums(calls: PlainCalls, start: int, end: int) -> Sums:
    found = calls.summary(start, end, MOST_CALLS)
    size, kinds = 0, []
    groups: dict[Group, tuple[int, int, int, int]] = {}
    for kind, count, some, duration, last in found.uses:
        size += some
        group = kind.group
        kinds.append((kind.operation.name, group.name))
        known = groups.get(group)
        if known is None:
            groups[group] = count, some, duration, last
        else:
            groups[group] = known[0] + count, known[1] + some, known[2] + duration, max(known[3], last)
    uses = [
        GroupUse(group.name, count, some, duration // 1000, last, group.size or None)
        for group, (count, some, duration, last) in groups.items()
    ]
    packed = packed_calls(kinds, found.places, found.afters, found.durations)
    issuing = None if found.issuing < 0 else found.issuing
    return Sums(found.first, len(calls), size, found.busy, issuing, tuple(uses[:_MOST_GROUPS]), packed)
