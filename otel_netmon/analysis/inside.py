"""One calm and one late step, with what each rank did in them."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from otel_netmon.analysis.details import Drawn, InsideRank, InsideStep
from otel_netmon.analysis.operations import percentile
from otel_netmon.analysis.waiting import Part, Waits, length
from otel_netmon.diagnosis.finding import Finding
from otel_netmon.diagnosis.steps import StepTable

MOST_RANKS: Final = 16
_MOST_DRAWN: Final = 1000
"""Collectives of a step that are shown, over all ranks; the longest ones."""

Pauses = Callable[[int], tuple[tuple[str, float, float], ...]]
"""Of a rank in the step: kind, start in the step, duration."""


def choose(
    steps: Sequence[int],
    times: Sequence[float],
    lateness: Mapping[int, Sequence[float]],
    usable: Sequence[int],
    finding: Finding | None,
) -> list[tuple[int, str]]:
    """Columns of ``steps`` to show, out of those ``usable``, and why."""
    if not usable:
        return []
    worst = {column: max((row[column] for row in lateness.values()), default=0.0) for column in usable}

    def typical(columns: Sequence[int]) -> int:
        return sorted(columns, key=lambda column: times[column])[len(columns) // 2]

    if finding is None or not finding.accuses or finding.first_step is None or finding.last_step is None:
        median, longest = typical(usable), max(usable, key=lambda column: times[column])
        return [(median, "the step of median length"), *([(longest, "the longest step")] * (longest != median))]
    first, last = finding.first_step, finding.last_step
    within = [column for column in usable if first <= steps[column] <= last]
    outside = [column for column in usable if column not in set(within)]
    if len(outside) >= 3:
        calm = (
            typical(outside),
            f"the median of the steps before {first}" + f" and after {last}" * (steps[outside[-1]] > last),
        )
    else:
        limit = percentile(sorted(worst.values()), 0.25) or 0.0
        calm = typical([column for column in usable if worst[column] <= limit]), "of those with little lateness"
    if not within:
        return [calm]
    own = [lateness[rank] for rank in finding.ranks if rank in lateness]
    cost = {column: max(row[column] for row in own) if own else times[column] for column in within}
    ordered = sorted(within, key=cost.__getitem__)
    late = ordered[int(0.9 * (len(ordered) - 1))]
    if cost[late] < cost[ordered[-1]] / 2:  # it is seldom late, and then much
        late = ordered[-1]
    who = f"one in which rank {finding.ranks[0]} is late" if own else "one of those that the finding is about"
    return [calm, *([(late, who)] * (late != calm[0]))]


def shown(ranks: Sequence[int], caused: Mapping[int, float]) -> tuple[int, ...]:
    """Those to show: all of a few, else those waited for most and some of the others."""
    if len(ranks) <= MOST_RANKS:
        return tuple(ranks)
    half = MOST_RANKS // 2
    worst = sorted(ranks, key=lambda rank: -caused.get(rank, 0.0))[:half]
    others = [rank for rank in ranks if rank not in set(worst)]
    return tuple(sorted({*worst, *others[:: max(1, len(others) // half)][:half]}))


def inside(
    step: int, why: str, table: StepTable, parts: Sequence[Part], *, ranks: Sequence[int], pauses: Pauses
) -> InsideStep:
    """What ``ranks`` did in a step. Clocks of hosts are never compared: rows meet where all of them left the
    collective that was soonest over, or else where their steps began."""
    ranks = [rank for rank in ranks if rank in table]
    begins = {rank: table.start[rank] / 1e9 for rank in ranks}
    aligned, offsets = None, dict(begins)
    common = [part for part in parts if set(ranks) <= set(part.ranks) and not any(map(math.isnan, part.starts))]
    if common:
        nearest = min(common, key=lambda part: max(part.seconds))
        places = {int(rank): place for place, rank in enumerate(nearest.ranks)}
        aligned = f"{nearest.operation} number {nearest.sequence}"
        offsets = {rank: nearest.starts[places[rank]] + nearest.seconds[places[rank]] for rank in ranks}
    left = min((begins[rank] - offsets[rank] for rank in ranks), default=0.0)
    drawn: dict[int, list[Drawn]] = defaultdict(list)
    waits: Waits = defaultdict(list)
    for part in parts:
        shortest = min(part.seconds)
        for rank, seconds, start in zip(map(int, part.ranks), part.seconds, part.starts, strict=True):
            if rank in offsets:
                waits[rank].append((start, seconds - shortest))
                if not math.isnan(start):
                    at = start - offsets[rank] - left
                    what = part.operation, part.group, part.sequence, part.size
                    drawn[rank].append(Drawn(*what, at, seconds, seconds - shortest))
    durations = [one.seconds for each in drawn.values() for one in each]
    least = _least(durations)
    return InsideStep(
        step,
        why,
        aligned,
        tuple(
            InsideRank(
                rank,
                begins[rank] - offsets[rank] - left,
                table.duration[rank],
                length(waits[rank]) if waits[rank] else 0.0,
                tuple(sorted((one for one in drawn[rank] if one.seconds >= least), key=lambda one: one.start)),
                pauses(rank),
            )
            for rank in ranks
        ),
        sum(seconds < least for seconds in durations),
    )


def _least(seconds: list[float]) -> float:
    """The shortest duration that is shown."""
    return 0.0 if len(seconds) <= _MOST_DRAWN else sorted(seconds)[-_MOST_DRAWN]


class PauseTable:
    """The pauses of all steps of all ranks. Memory: 20 bytes each."""

    KINDS: Final = ("data", "gc")

    def __init__(self) -> None:
        self._places = array("q")
        """Trace, rank and kind in one number."""
        self._times = array("d")
        self._index: dict[int, list[int]] | None = None

    def add(self, trace: int, rank: int, kind: str, start: int, duration: int) -> None:
        """A pause; µs."""
        if kind in self.KINDS:
            self._places.append((trace << 24 | rank) << 1 | self.KINDS.index(kind))
            self._times.extend((start / 1e6, duration / 1e6))

    def of(self, traces: Sequence[int]) -> Callable[[int, int], tuple[tuple[str, float, float], ...]]:
        """Those of some traces, by trace and rank."""
        wanted, found = set(traces), defaultdict(list)
        for number, place in enumerate(self._places):
            if place >> 25 in wanted:
                start, duration = self._times[2 * number : 2 * number + 2]
                found[place >> 1].append((self.KINDS[place & 1], start, duration))
        return lambda trace, rank: tuple(sorted(found[trace << 24 | rank], key=lambda each: each[1]))
