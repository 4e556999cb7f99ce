"""How long each rank waited in collectives, and for whom.

A collective that synchronises ends on all ranks at about the same time, so the rank that came last has the
*shortest* duration, and what the others spent beyond that they spent waiting. No clock of one host is compared
with another's. Who was waited for is not who is to blame: the receiver behind a slow link is late in the *next*
collective, and with overlapping asynchronous collectives some waiting is queueing. ``diagnosis`` tells.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from otel_netmon import semconv
from otel_netmon.covered import covered
from otel_netmon.records import Call, Collective, RankStep

Where = tuple[int, str, str]
"""A trace's number, a group, an operation: within it a sequence number means the same on every rank."""
_NAN: Final = math.nan
_POINT_TO_POINT: Final = ("send", "recv")
"""Those that their group does not number."""


@dataclass(frozen=True)
class RankWait:
    """One rank's waiting. Seconds in at least one collective: of several in flight together each would count it
    again. ``share`` is of the time of the steps looked at, ``None`` when not known."""

    rank: int
    waited: float
    share: float | None
    waited_for: int
    """Collectives in which this rank was the last to come."""
    caused: float
    """Mean wait of the other ranks of the group in those collectives."""


@dataclass(frozen=True)
class Waiting:
    """The waiting of all ranks, by rank. The first step is left out: see ``measure``."""

    steps: int
    """Steps with at least one matched collective."""
    matched: int
    """Collectives seen on every rank of their group, with a duration on each."""
    unmatched: int
    """Collectives that were not: a rank's telemetry is missing, or it failed there."""
    ranks: tuple[RankWait, ...]


Waits = dict[int, list[tuple[float, float]]]
"""By rank: when it began to wait, NaN where that is not known, and for how long."""


def length(waits: Sequence[tuple[float, float]]) -> float:
    """Seconds in at least one of them; where it is not known when they began, one comes after the other: on a
    device they do."""
    if len(waits) == 1:
        return waits[0][1]
    if any(math.isnan(start) for start, _ in waits):
        return sum(seconds for _, seconds in waits)
    return covered((int(start * 1e9), int((start + seconds) * 1e9)) for start, seconds in waits) / 1e9


class Part(NamedTuple):
    """One collective as all ranks of its group were in it; columns are by place in ``ranks``."""

    group: str
    operation: str
    sequence: int
    size: float
    """Bytes of the buffer; NaN where no span tells."""
    moved: float
    """Bytes on the bus, that is busbw times duration; NaN where no span tells. The same on every rank."""
    ranks: array[float]
    seconds: array[float]
    starts: array[float]
    """Seconds of each rank's own clock; NaN where only the duration is known."""


def waits_of(part: Part, into: Waits) -> None:
    """Add the waiting of each rank in one collective."""
    shortest = min(part.seconds)
    for rank, seconds, start in zip(part.ranks, part.seconds, part.starts, strict=True):
        into[int(rank)].append((start, seconds - shortest))


class Matcher:
    """Collects durations and matches them over ranks. Memory: some 400 bytes for each, 24 per rank."""

    def __init__(self) -> None:
        # By sequence: the group's size, bytes, bytes on the bus; then rank, duration and start in turn.
        self._seen: dict[Where, dict[int, array[float]]] = defaultdict(dict)

    def add(
        self,
        where: Where,
        sequence: int,
        size: int,
        rank: int,
        seconds: float,
        *,
        start: float = _NAN,
        of: Collective | None = None,
    ) -> None:
        """One rank's part in the collective number ``sequence`` of a group of ``size`` ranks; 0: not known."""
        if where[2] not in semconv.SYNCHRONISING or size == 1:
            return
        known = self._seen[where].get(sequence)
        if known is None:
            known = self._seen[where][sequence] = array("d", (size, _NAN, _NAN))
        known.extend((rank, seconds, start))
        if of is not None and of.busbw is not None and of.size is not None:
            known[1], known[2] = of.size, of.busbw * seconds

    def add_step(self, trace: int, rank: int, step: RankStep) -> None:
        """A rank's part in the collectives of a step without spans, numbered back from the last of their group."""
        sizes = {use.group: use.ranks or 0 for use in step.groups}
        for sequence, call in numbered(step):
            if sequence is not None and call.duration is not None:
                start = step.start / 1e9 + call.start / 1e6
                where = trace, call.group, call.operation
                self.add(where, sequence, sizes[call.group], rank, call.duration / 1e6, start=start)

    def by_trace(self) -> dict[int, list[Where]]:
        """Where there are collectives, by trace."""
        found: dict[int, list[Where]] = defaultdict(list)
        for where in self._seen:
            found[where[0]].append(where)
        return found

    def parts(self, where: Where, sizes: Mapping[str, int]) -> Iterator[Part | None]:
        """Each collective there; ``None`` for one that was not seen once on every rank of its group."""
        _, group, operation = where
        for sequence, known in self._seen[where].items():
            size = known[0] or sizes.get(group, 0)
            if size == 1:
                continue
            ranks = known[3::3]
            if len(ranks) == size and len(set(ranks)) == size:
                yield Part(group, operation, sequence, known[1], known[2], ranks, known[4::3], known[5::3])
            else:
                yield None

    def measure(self, steps: Mapping[int, int], times: Mapping[int, float], sizes: Mapping[str, int]) -> Waiting:
        """What it comes to. ``steps`` are the traces' step numbers, ``times`` their seconds, ``sizes`` groups'.

        Step 0 and what came before it (a negative number) are left out: processes start at different times, and
        who is waited for there says nothing.
        """
        waited: dict[int, float] = defaultdict(float)
        caused: dict[int, float] = defaultdict(float)
        late: dict[int, int] = defaultdict(int)
        seen: set[int] = set()
        matched = unmatched = 0
        for trace, places in self.by_trace().items():
            if steps.get(trace, 1) <= 0:
                continue
            waits: Waits = defaultdict(list)
            blamed: dict[tuple[int, str], tuple[int, Waits]] = {}
            for where in places:
                for part in self.parts(where, sizes):
                    if part is None:
                        unmatched += 1
                        continue
                    matched += 1
                    seen.add(trace)
                    shortest = min(part.seconds)
                    last = int(part.ranks[part.seconds.index(shortest)])
                    late[last] += max(part.seconds) > shortest
                    waits_of(part, waits)
                    key = last, part.group
                    _, others = blamed.setdefault(key, (len(part.ranks) - 1, defaultdict(list)))
                    waits_of(part, others)  # the last one's own waiting is none
            for rank, each in waits.items():
                waited[rank] += length(each)
            for (last, _), (count, others) in blamed.items():
                caused[last] += sum(map(length, others.values())) / count
        step_time = sum(times.get(trace, 0.0) for trace in seen) or None
        ranks = tuple(
            RankWait(rank, waited[rank], waited[rank] / step_time if step_time else None, late[rank], caused[rank])
            for rank in sorted(waited)
        )
        return Waiting(len(seen), matched, unmatched, ranks)


def numbered(step: RankStep) -> Iterator[tuple[int | None, Call]]:
    """The packed calls of a step with the sequence number of each, counted back from the last of their group;
    ``None`` where not all calls of the group are known, and of those that their group does not number."""
    by_group: dict[str, list[Call]] = defaultdict(list)
    for call in step.calls:
        by_group[call.group].append(call)
    used = {use.group: use for use in step.groups}
    for group, calls in by_group.items():
        use = used.get(group)
        last = None if use is None or len(calls) != use.calls else use.last_sequence
        counted = sum(call.operation not in _POINT_TO_POINT for call in calls)
        sequence = None if last is None else last - counted
        for call in calls:
            if sequence is None or call.operation in _POINT_TO_POINT:
                yield None, call
            else:
                sequence += 1
                yield sequence, call
