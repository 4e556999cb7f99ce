"""Ranks against ranks: what one has more of than the median of the others, step by step."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

from otel_netmon.diagnosis.evidence import Evidence, StepSample

Quantity = Callable[[StepSample], float | None]


def median(values: Iterable[float]) -> float:
    """NaN of nothing."""
    ordered = sorted(values)
    count = len(ordered)
    if not count:
        return math.nan
    middle = count // 2
    return ordered[middle] if count % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def spread(values: Sequence[float]) -> float:
    """The median absolute deviation, scaled to the standard deviation of a normal distribution."""
    middle = median(values)
    return 1.4826 * median(abs(value - middle) for value in values)


def standard_score(values: Sequence[float]) -> float:
    """The median of ``values`` in units of its standard error: 1.2533 sigma / sqrt(n), if they are normal."""
    return median(values) / (1.2533 * spread(values) / math.sqrt(len(values)) + 1e-9)


def _without(ordered: list[float], place: int) -> float:
    """The median of ``ordered`` without the one at ``place``, in constant time."""
    count = len(ordered) - 1
    low, high = (count - 1) // 2, count // 2
    low, high = low + (low >= place), high + (high >= place)
    return (ordered[low] + ordered[high]) / 2


class Window:
    """Some steps, and the ranks that took (nearly) all of them."""

    def __init__(self, evidence: Evidence, steps: Sequence[int]) -> None:
        self.evidence = evidence
        self.steps = steps
        self.rows = [evidence.steps[number] for number in steps]
        taken = Counter(rank for row in self.rows for rank in row)
        self.ranks = sorted(rank for rank, count in taken.items() if count >= 0.8 * len(steps))
        self._peers = self._cohorts()
        self.duration = median(median(each.duration for each in row.values()) for row in self.rows)
        """Seconds of a step."""

    def _cohorts(self) -> dict[int, int]:
        """Ranks that do the same in a step are compared with one another: pipeline stages, say, differ by
        design. A rank like which there is no other is compared with all."""
        does: dict[int, Counter[tuple[int | None, int | None]]] = defaultdict(Counter)
        for row in self.rows:
            for rank, each in row.items():
                does[rank][each.calls, each.size] += 1
        same: dict[tuple[int | None, int | None], list[int]] = defaultdict(list)
        for rank in self.ranks:
            same[does[rank].most_common(1)[0][0]].append(rank)
        if any(len(ranks) == 1 for ranks in same.values()):
            return dict.fromkeys(self.ranks, 0)
        return {rank: number for number, ranks in enumerate(same.values()) for rank in ranks}

    def values(self, quantity: Quantity) -> dict[int, list[float]]:
        """By rank, in the order of steps; without those where it is not known."""
        found: dict[int, list[float]] = {rank: [] for rank in self.ranks}
        for row in self.rows:
            for rank, each in row.items():
                value = quantity(each)
                if value is not None and rank in found:
                    found[rank].append(value)
        return found

    def excess(self, quantity: Quantity) -> tuple[dict[int, list[float]], dict[int, list[float]]]:
        """By rank and step, how much more it has than the median of the others alike, and that median."""
        more: dict[int, list[float]] = {rank: [] for rank in self.ranks}
        others: dict[int, list[float]] = {rank: [] for rank in self.ranks}
        for row in self.rows:
            of: dict[int, list[tuple[float, int]]] = defaultdict(list)
            for rank in self.ranks:
                if rank in row and (value := quantity(row[rank])) is not None:
                    of[self._peers[rank]].append((value, rank))
            for known in of.values():
                if len(known) < 2:
                    continue
                known.sort()
                ordered = [value for value, _ in known]
                for place, (value, rank) in enumerate(known):
                    baseline = _without(ordered, place)
                    more[rank].append(value - baseline)
                    others[rank].append(baseline)
        return more, others

    def span(self, rank: int) -> tuple[int, int]:
        """First start and last end on that rank's clock."""
        own = [row[rank] for row in self.rows if rank in row]
        return own[0].start, own[-1].end
