"""How long each rank waited in collectives, and for whom.

A collective that synchronises ends on all ranks at about the same time, so the rank that came last has the
*shortest* duration, and what the others spent beyond that they spent waiting. No clock of one host is compared
with another's. The limits: a slow link can look the same (the receiver behind it is late in the *next*
collective), and with overlapping asynchronous collectives some waiting is queueing.
"""

from __future__ import annotations

import enum
from array import array
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from otel_netmon import semconv
from otel_netmon.records import Call, RankStep

MIN_MATCHED: Final = 20
"""Matched collectives below which nothing is said."""
MIN_SHARE_OF_STEP: Final = 0.05
"""Mean wait per rank, as a share of the step time, below which it is called small."""


Where = tuple[int, str, str]
"""A trace's number, a group, an operation: within it a sequence number means the same on every rank."""
_POINT_TO_POINT: Final = ("send", "recv")
"""Those that their group does not number."""


class Verdict(str, enum.Enum):
    """What the waiting says about the ranks."""

    INSUFFICIENT = "insufficient"
    """Fewer than ``MIN_MATCHED`` collectives were seen on all their ranks, or no step was."""
    SMALL = "small"
    """The mean wait per rank is below ``MIN_SHARE_OF_STEP`` of the step time."""
    EVEN = "even"
    """No rank caused more than its share: less than halfway from an even share to all of the waiting."""
    OCCASIONAL = "occasional"
    """One rank caused that much, but was the late one in less than half of the steps."""
    STEADY = "steady"
    """One rank caused that much, and was the late one in at least half of the steps."""


@dataclass(frozen=True)
class RankWait:
    """One rank's waiting. Seconds; ``share`` is of the time of the steps looked at, ``None`` when not known."""

    rank: int
    waited: float
    share: float | None
    waited_for: int
    """Collectives in which this rank was the last to come."""
    caused: float
    """Mean wait of the other ranks in those collectives, summed."""


@dataclass(frozen=True)
class Waiting:
    """The waiting of all ranks, by rank, and what it says. The first step is left out: see ``measure``."""

    verdict: Verdict
    rank: int | None
    """The rank waited for, with ``STEADY`` and ``OCCASIONAL``."""
    caused_share: float | None
    """That rank's share of the waiting caused."""
    late_steps: int | None
    """Steps in which that rank caused the most waiting."""
    steps: int
    """Steps with at least one matched collective."""
    matched: int
    """Collectives seen on every rank of their group, with a duration on each."""
    unmatched: int
    """Collectives that were not: a rank's telemetry is missing, or it failed there."""
    ranks: tuple[RankWait, ...]


class Matcher:
    """Collects durations and matches them over ranks. Memory: some 400 bytes for each, 16 per rank."""

    def __init__(self) -> None:
        # By sequence: the group's size, then rank and duration in turn.
        self._seen: dict[Where, dict[int, array[float]]] = defaultdict(dict)

    def add(self, where: Where, sequence: int, size: int, rank: int, seconds: float) -> None:
        """One rank's part in the collective number ``sequence`` of a group of ``size`` ranks; 0: not known."""
        if where[2] not in semconv.SYNCHRONISING or size == 1:
            return
        durations = self._seen[where].setdefault(sequence, array("d", (size,)))
        durations.extend((rank, seconds))

    def add_step(self, trace: int, rank: int, step: RankStep) -> None:
        """A rank's part in the collectives of a step without spans, numbered back from the last of their group."""
        by_group: dict[str, list[Call]] = defaultdict(list)
        for call in step.calls:
            by_group[call.group].append(call)
        for use in {use.group: use for use in step.groups}.values():
            calls = by_group[use.group]
            if use.last_sequence is None or len(calls) != use.calls:
                continue  # not all are known
            numbered = [call for call in calls if call.operation not in _POINT_TO_POINT]
            for sequence, call in enumerate(numbered, use.last_sequence - len(numbered) + 1):
                if call.duration is not None:
                    self.add((trace, use.group, call.operation), sequence, 0, rank, call.duration / 1e6)

    def measure(self, steps: Mapping[int, int], times: Mapping[int, float], sizes: Mapping[str, int]) -> Waiting:
        """What it comes to. ``steps`` are the traces' step numbers, ``times`` their seconds, ``sizes`` groups'.

        Step 0 and what came before it (a negative number) are left out: processes start at different times, and
        who is waited for there says nothing.
        """
        waited: dict[int, float] = defaultdict(float)
        caused: dict[int, float] = defaultdict(float)
        late: dict[int, int] = defaultdict(int)
        by_step: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
        matched = unmatched = 0
        for (trace, group, _), collectives in self._seen.items():
            if steps.get(trace, 1) <= 0:
                continue
            for durations in collectives.values():
                by_rank = dict(zip(map(int, durations[1::2]), durations[2::2], strict=True))
                size = durations[0] or sizes.get(group, 0)
                if size == 1:
                    continue
                if len(by_rank) != size or len(durations) != 1 + 2 * len(by_rank):
                    unmatched += 1
                    continue
                matched += 1
                last = min(by_rank, key=by_rank.__getitem__)
                shortest = by_rank[last]
                for rank, seconds in by_rank.items():
                    waited[rank] += seconds - shortest
                cause = sum(seconds - shortest for seconds in by_rank.values()) / (len(by_rank) - 1)
                by_step[trace][last] += cause
                if cause > 0:
                    caused[last] += cause
                    late[last] += 1
        step_time = sum(times.get(trace, 0.0) for trace in by_step) or None
        ranks = tuple(
            RankWait(rank, waited[rank], waited[rank] / step_time if step_time else None, late[rank], caused[rank])
            for rank in sorted(waited)
        )
        # None where nobody waited.
        late_in = [max(step, key=step.__getitem__) if any(step.values()) else None for step in by_step.values()]
        return _judge(ranks, late_in, matched, unmatched, step_time)


def _judge(
    ranks: tuple[RankWait, ...], late_in: list[int | None], matched: int, unmatched: int, step_time: float | None
) -> Waiting:
    total = sum(rank.caused for rank in ranks)
    verdict, top, share, late_steps = Verdict.EVEN, None, None, None
    if matched < MIN_MATCHED or not step_time:
        verdict = Verdict.INSUFFICIENT
    elif sum(rank.waited for rank in ranks) / len(ranks) < MIN_SHARE_OF_STEP * step_time:
        verdict = Verdict.SMALL
    else:
        first = max(ranks, key=lambda rank: rank.caused)
        if first.caused / total >= (len(ranks) + 1) / (2 * len(ranks)):
            top, share = first.rank, first.caused / total
            late_steps = late_in.count(first.rank)
            verdict = Verdict.STEADY if 2 * late_steps >= len(late_in) else Verdict.OCCASIONAL
    return Waiting(verdict, top, share, late_steps, len(late_in), matched, unmatched, ranks)
