"""Who was late in which step, and by how much: a value for each rank and step.

In one collective the rank that waited least came last (see ``waiting``). By how much less a rank waited in a step
than the median of the others of its group, so much later it came.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

from otel_netmon.analysis.waiting import Matcher, Waits, Where, length, waits_of
from otel_netmon.diagnosis.steps import StepTable


def late(waited: Mapping[int, float]) -> dict[int, float]:
    """By how much each rank waited less than the median of the others, where it did."""
    ordered = sorted(waited.values())
    count = len(ordered)
    if count < 2:
        return {}
    middle = count // 2
    # Without a value of the lower half, the median is this one.
    usual = ordered[middle] if count % 2 == 0 else (ordered[middle] + ordered[middle + 1]) / 2
    return {rank: usual - seconds for rank, seconds in waited.items() if seconds < usual}


def by_sums(table: StepTable) -> dict[int, float]:
    """The same of a step of which no single collective is known: by how much less time a rank had in collectives
    than the median of those that had the same ones to do."""
    alike: dict[object, dict[int, float]] = defaultdict(dict)
    for rank in table:
        inside = table.duration[rank] - table.own[rank]
        if not math.isnan(inside):
            alike[table.work[rank]][rank] = inside
    return {rank: seconds for each in alike.values() for rank, seconds in late(each).items()}


def in_step(
    matcher: Matcher, places: Sequence[Where], sizes: Mapping[str, int]
) -> tuple[dict[int, float], dict[int, float]]:
    """Of the collectives of one trace: for how long each rank waited, and by how much it was late: in the group
    where that was most, for it may be in several."""
    by_group: dict[str, Waits] = {}
    for where in places:
        for part in matcher.parts(where, sizes):
            if part is not None:
                waits_of(part, by_group.setdefault(where[1], defaultdict(list)))
    waited: dict[int, float] = {}
    lateness: dict[int, float] = {}
    for of_group in by_group.values():
        waited = {rank: length(each) for rank, each in of_group.items()}
        for rank, seconds in late(waited).items():
            lateness[rank] = max(seconds, lateness.get(rank, 0.0))
    if len(by_group) > 1:  # else that is it
        waits: Waits = defaultdict(list)
        for of_group in by_group.values():
            for rank, each in of_group.items():
                waits[rank] += each
        waited = {rank: length(each) for rank, each in waits.items()}
    return waited, lateness
