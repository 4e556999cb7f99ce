"""What is summed up of the collectives of a step, a setup or a window on this rank."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from otel_netmon.records import Call, GroupUse
from otel_netmon.schema import MOST_CALLS
from otel_netmon.threads import Pace

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent

_MERGE_AT: Final = 4096
_AT_ONCE: Final = 512
_MOST_GROUPS: Final = 64
_UNKNOWN: Final = -1


class IntervalStats:
    """What a rank's collectives in one interval add up to, and the first ones one by one. Times in nanoseconds.

    Used by one thread, which keeps the ``pace``: summing up thousands takes milliseconds.
    """

    __slots__ = (
        *("_busy_from", "_busy_until", "_durations", "_groups", "_kind", "_kinds", "_pace", "_settled", "_starts"),
        *("count", "first", "size"),
    )

    def __init__(self, first: int, pace: Pace | None = None) -> None:
        self._pace = pace or Pace()
        self.first = first
        """Start of the first collective."""
        self.count = 0
        self.size = 0
        self._busy_from, self._busy_until = array("q"), array("q")
        self._settled = 0
        self._groups: dict[str, list[int]] = {}
        """By name: calls, bytes, calls with a known duration, their sum, the last sequence number, ranks."""
        self._kinds: dict[tuple[str, str], int] = {}
        self._kind, self._starts, self._durations = array("q"), array("q"), array("q")

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
            if end is not None:
                self._busy_from.append(start)
                self._busy_until.append(end)
        if len(self._busy_from) > _MERGE_AT:
            merged = self._merged()
            # events come by their end: nothing more will overlap the oldest
            self._settled += _total(merged[: -_MERGE_AT // 2])
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
        kinds = list(self._kinds)
        rows = sorted(zip(self._starts, self._kind, self._durations, strict=True))
        self._pace.give_way()
        return tuple(
            Call(*kinds[kind], (begun - start) // 1000, None if duration == _UNKNOWN else duration // 1000)
            for begun, kind, duration in rows
        )

    def busy(self, until: int) -> int:
        """Time with at least one collective in flight, before ``until``."""
        return self._settled + _total((start, min(end, until)) for start, end in self._merged() if start < until)

    def _merged(self) -> list[tuple[int, int]]:
        merged: list[tuple[int, int]] = []
        for some in self._pace.pieces(sorted(zip(self._busy_from, self._busy_until, strict=True)), _AT_ONCE):
            for start, end in some:
                if merged and start <= merged[-1][1]:
                    merged[-1] = merged[-1][0], max(end, merged[-1][1])
                else:
                    merged.append((start, end))
        return merged


def _total(intervals: Iterable[tuple[int, int]]) -> int:
    return sum(end - start for start, end in intervals)
