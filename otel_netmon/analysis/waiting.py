"""How long each rank waited in collectives, and for whom.

A collective that synchronises ends on all ranks at about the same time, so the rank that came last has the
*shortest* duration, and what the others spent beyond that they spent waiting. No clock of one host is compared
with another's. Who was waited for is not who is to blame: the receiver behind a slow link is late in the *next*
collective, and with overlapping asynchronous collectives some waiting is queueing. ``diagnosis`` tells.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from otel_netmon import semconv
from otel_netmon.records import Call, RankStep

Where = tuple[int, str, str]
"""A trace's number, a group, an operation: within it a sequence number means the same on every rank."""
_POINT_TO_POINT: Final = ("send", "recv")
"""Those that their group does not number."""


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
    """The waiting of all ranks, by rank. The first step is left out: see ``measure``."""

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
        for sequence, call in numbered(step):
            if sequence is not None and call.duration is not None:
                self.add((trace, call.group, call.operation), sequence, 0, rank, call.duration / 1e6)

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
                seen.add(trace)
                if cause > 0:
                    caused[last] += cause
                    late[last] += 1
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
