"""What is summed up of the collectives of a step, a setup or a window on this rank."""

from __future__ import annotations

import functools
from array import array
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from otel_netmon.records import Call, GroupUse
from otel_netmon.schema import MOST_CALLS

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.capture.plain import Series

_MERGE_AT: Final = 4096
_MOST_GROUPS: Final = 64
_UNKNOWN: Final = -1
_call: Final = functools.partial(tuple.__new__, Call)
"""``Call._make`` in a third of its time."""


class IntervalStats:
    """What a rank's collectives in one interval add up to, and the first ones one by one. Times in nanoseconds."""

    __slots__ = (
        *("_busy_from", "_busy_until", "_durations", "_groups", "_kind", "_kinds", "_settled", "_starts"),
        *("count", "first", "size"),
    )

    def __init__(self, first: int) -> None:
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
        self._settle()

    def add_plain(self, series: Iterable[Series]) -> None:
        """Count plain calls: the same as each of their events."""
        for one in series:
            group, count = one.kind.group, len(one.starts)
            self.count += count
            self.size += one.size
            self.first = min(self.first, *one.starts)
            use = self._groups.get(group.name)
            if use is None and len(self._groups) < _MOST_GROUPS:
                use = self._groups[group.name] = [0, 0, 0, 0, 0, group.size]
            if use is not None:
                use[0] += count
                use[1] += one.size
                use[2] += count
                use[3] += one.duration
                use[4] = max(use[4], one.last_sequence)
            some = min(count, max(0, MOST_CALLS - len(self._starts)))
            kind = self._kinds.setdefault((one.kind.operation.name, group.name), len(self._kinds))
            self._kind.extend(array("q", (kind,)) * some)
            self._starts.extend(one.starts[:some])
            self._durations.extend(one.durations[:some])
            self._busy_from.extend(one.starts)
            self._busy_until.extend(one.ends)
        self._settle()

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
        total, reached = self._settled, -1 << 63
        for start, end in sorted(zip(self._busy_from, self._busy_until, strict=True)):
            if start >= until:
                break
            last = end if end < until else until
            if last > reached:
                total += last - (start if start > reached else reached)
                reached = last
        return total

    def _merged(self) -> list[tuple[int, int]]:
        merged: list[tuple[int, int]] = []
        for start, end in sorted(zip(self._busy_from, self._busy_until, strict=True)):
            if merged and start <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(end, merged[-1][1])
            else:
                merged.append((start, end))
        return merged
