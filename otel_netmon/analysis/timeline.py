"""The steps of a folder one after the other, each with all ranks in it: what a timeline is drawn of.

All files are read side by side, the one that is furthest behind first, so that the ranks' parts of a step meet
soon and only a few steps are held at a time. Ranks meet in the trace of a step, and in a collective by its
number, as in ``waiting``: no clock of one host is compared with another's.
"""

from __future__ import annotations

import heapq
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from otel_netmon import semconv
from otel_netmon.analysis.operations import seconds_of
from otel_netmon.analysis.waiting import numbered
from otel_netmon.records import Collective, RankStep, Source
from otel_netmon.store.appended import Appended
from otel_netmon.store.problems import Problems
from otel_netmon.store.reader import Known, records
from otel_netmon.store.values import parse

_ON_RANK: Final = frozenset(semconv.EVENT_OF_PERIOD)
_BEHIND: Final = 2
"""Steps that every file has to be past one before it counts as whole: calls may end in the step after theirs."""
_MOST_BEHIND: Final = 64
"""Steps that are held at most for the sake of a rank that does not come."""

Key = tuple[str, str, int]
"""A collective in a step: group, operation, sequence number."""


class DrawnCall(NamedTuple):
    """One call on one rank, by the clock of its host."""

    operation: str
    group: str
    sequence: int | None
    start: int
    end: int
    size: int | None = None
    busbw: float | None = None
    duration: float | None = None
    """Seconds that it took, ``None`` where that is not known; on a device not from ``start`` to ``end``."""
    note: str | None = None
    """What became of it, if it did not end well."""
    on_host: bool = True
    """Whether ``start`` and ``end`` are those of what took ``duration``."""


@dataclass
class Part:
    """What one rank did in a step, or before the first."""

    source: Source
    rank: int
    period: RankStep | None = None
    calls: list[DrawnCall] = field(default_factory=list)


class Met(NamedTuple):
    """A synchronising collective that is known of every rank of its group."""

    last: str
    """The process that came last."""
    shortest: float
    """Seconds that it took there."""


@dataclass
class StepOfAll:
    """A step of all ranks; ``number`` is ``None`` before the first, and where nothing marks steps."""

    number: int | None
    parts: dict[str, Part]
    """By process, in the order of ranks."""
    met: dict[Key, Met]


@dataclass
class _Open:
    """A trace whose step is not whole."""

    since: int
    parts: dict[str, Part] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    """Of groups."""
    step: int = -1
    done: int = 0
    needed: int = 1


class Timeline:
    """Makes steps of records. Memory: the steps that are open, some 300 bytes for each call of them."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}
        self._order = itertools.count()
        self.highest: int = -1
        """Of a step in the records that were taken since this was set."""

    def take(self, record: Known) -> None:
        """Take one record."""
        if not isinstance(record, Collective | RankStep):
            return
        source = record.source or Source()
        rank = source.rank if record.rank is None else record.rank
        if rank is None or (isinstance(record, RankStep) and record.name not in _ON_RANK):
            return
        trace = self._open.get(record.trace_id)
        if trace is None:
            trace = self._open[record.trace_id] = _Open(next(self._order))
        part = trace.parts.get(source.instance)
        if part is None:
            part = trace.parts[source.instance] = Part(source, rank)
        if isinstance(record, Collective):
            part.calls.append(_drawn(record))
            if record.group_size is not None:
                trace.sizes[record.group or ""] = record.group_size
            return
        part.period = record
        trace.done += 1
        trace.needed = max(trace.needed, record.world_size or source.world_size or 1)
        for use in record.groups:
            if use.ranks is not None:
                trace.sizes.setdefault(use.group, use.ranks)
        if record.step is not None:
            trace.step = max(trace.step, record.step)
            self.highest = max(self.highest, record.step)

    def whole(self, passed: int) -> Iterator[StepOfAll]:
        """Those that are whole once every file is past step ``passed``, in their order."""
        ready = [
            (one.step, one.since, trace)
            for trace, one in self._open.items()
            if one.step <= passed - (_BEHIND if one.done >= one.needed else _MOST_BEHIND)
        ]
        for *_, trace in sorted(ready):
            yield _finished(self._open.pop(trace))

    def rest(self) -> Iterator[StepOfAll]:
        """What is left at the end."""
        yield from self.whole(1 << 62)


def read_steps(
    paths: list[Path],
    problems: Problems,
    progress: Callable[[int], None] = lambda _: None,
    also: Callable[[Known], None] = lambda _: None,
) -> Iterator[StepOfAll]:
    """The steps of the files, in one pass; ``also`` is shown every record."""
    timeline = Timeline()
    # The file that is furthest behind goes first; one in which there are no steps is read at once.
    waiting = [(-1, place, Appended(path)) for place, path in enumerate(paths)]
    heapq.heapify(waiting)
    looked = -1
    while waiting:
        passed, place, file = waiting[0]
        if passed > looked:
            yield from timeline.whole(passed)
            looked = passed
        before = file.offset
        lines = file.lines(problems, is_last=True)
        progress(file.offset - before)
        if not lines:
            heapq.heappop(waiting)
            continue
        timeline.highest = passed
        for line, _ in lines:
            for record in records(parse(line, problems), problems, file.path.name):
                also(record)
                timeline.take(record)
        heapq.heapreplace(waiting, (timeline.highest, place, file))
    yield from timeline.rest()


def _drawn(one: Collective) -> DrawnCall:
    is_open = one.state == semconv.STATE_IN_FLIGHT
    note = "did not end" if is_open else one.error and f"failed: {one.error}"
    seconds = seconds_of(one)
    return DrawnCall(
        one.operation,
        one.group or "",
        one.sequence,
        one.start,
        one.end,
        one.size,
        one.busbw,
        seconds,
        note,
        on_host=one.device_duration is None and seconds is not None,
    )


def _unpacked(step: RankStep) -> Iterator[DrawnCall]:
    """The calls of a step that has no spans below it, to the µs."""
    for sequence, call in numbered(step):
        start, took = step.start + call.start * 1000, call.duration
        if took is not None:
            end, seconds = start + took * 1000, took / 1e6
            yield DrawnCall(call.operation, call.group, sequence, start, end, duration=seconds)


def _finished(trace: _Open) -> StepOfAll:
    parts = dict(sorted(trace.parts.items(), key=lambda item: item[1].rank))
    for part in parts.values():
        if not part.calls and part.period is not None:
            part.calls = list(_unpacked(part.period))
        part.calls.sort(key=lambda call: (call.start, -call.end))
    numbers = [part.period.step for part in parts.values() if part.period is not None]
    known = [number for number in numbers if number is not None]
    return StepOfAll(known[0] if known else None, parts, _met(parts, trace.sizes, trace.needed))


def _met(parts: dict[str, Part], sizes: dict[str, int], world: int) -> dict[Key, Met]:
    """As ``waiting.Matcher`` matches them."""
    seen: dict[Key, list[tuple[float, str]]] = defaultdict(list)
    for instance, part in parts.items():
        for call in part.calls:
            if call.sequence is not None and call.duration is not None and call.operation in semconv.SYNCHRONISING:
                seen[call.group, call.operation, call.sequence].append((call.duration, instance))
    found = {}
    for key, each in seen.items():
        size = sizes.get(key[0]) or (world if key[0] == _DEFAULT_GROUP else 0)
        if size > 1 and len(each) == len({instance for _, instance in each}) == size:
            shortest, last = min(each)
            found[key] = Met(last, shortest)
    return found


_DEFAULT_GROUP: Final = "0"
"""torch's name for the group of all ranks."""
