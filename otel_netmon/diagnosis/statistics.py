"""Ranks against ranks: what one has more of than the median of the others, step by step."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Final, Literal

from otel_netmon.diagnosis import thresholds as limit
from otel_netmon.diagnosis.evidence import Evidence
from otel_netmon.diagnosis.medians import known, median, rise
from otel_netmon.diagnosis.steps import StepTable

Quantity = Literal["own", "running", "data", "gc", "cpu", "run_queue", "issued", "waited"]
"""A column of a step's table."""

_Middle = tuple[float, float, float, float]
"""See ``_without_one``."""

_MOST_STEPS: Final = 0.8
"""Share of a window's steps that a rank has to have taken."""
_MANY: Final = 64
"""Ranks from which on only those are looked at step by step whose median over the steps stands out."""

_FEW: Final = 64
_MOST_NAMED: Final = 8
"""Of so many ranks one may have a fault beside another that has the same; and at most so many ranks in all."""


class Window:
    """Some steps, and the ranks that took (nearly) all of them."""

    def __init__(self, evidence: Evidence, steps: Sequence[int]) -> None:
        self.evidence = evidence
        self.steps = steps
        self.tables = [evidence.steps[number] for number in steps]
        self.ranks = self._regular()
        self._cohorts = self._alike()
        self._known: dict[Quantity, Comparison] = {}
        self.duration = median(table.usual() for table in self.tables)
        """Seconds of a step."""

    @property
    def slower_from(self) -> int:
        """The step from which on steps take longer; its first, if they do not."""
        return self.steps[rise([table.usual() for table in self.tables])]

    def _regular(self) -> list[int]:
        if len({table.members() for table in self.tables}) == 1:
            return sorted(self.tables[0].work)
        every = set.intersection(*(set(table.work) for table in self.tables))
        if any(len(table) > len(every) for table in self.tables):
            taken: dict[int, int] = defaultdict(int)
            for table in self.tables:
                for rank in table:
                    taken[rank] += 1
            every = {rank for rank, count in taken.items() if count >= _MOST_STEPS * len(self.tables)}
        return sorted(every)

    def _alike(self) -> list[list[int]]:
        """Ranks that do the same in a step are compared with one another: pipeline stages, say, differ by
        design. Where there is no other rank like one, all are compared."""
        same: dict[tuple[int | None, int | None], list[int]] = defaultdict(list)
        work = self.tables[-1].work
        for rank in self.ranks:
            same[work.get(rank, (None, None))].append(rank)
        cohorts = list(same.values())
        return [self.ranks] if any(len(cohort) == 1 for cohort in cohorts) else cohorts

    def cohort_of(self, rank: int) -> list[int]:
        """The ranks that ``rank`` is compared with, itself included."""
        return next(cohort for cohort in self._cohorts if rank in cohort)

    @property
    def cohorts(self) -> list[list[int]]:
        """Ranks that are compared with one another."""
        return self._cohorts

    def compare(self, quantity: Quantity) -> Comparison:
        """Ranks compared by ``quantity``; worked out once."""
        comparison = self._known.get(quantity)
        if comparison is None:
            comparison = self._known[quantity] = Comparison(
                quantity, self.tables, self.cohorts, self.evidence.pause
            )
        return comparison

    def span(self, rank: int) -> tuple[int, int]:
        """First start and last end on that rank's clock."""
        first = next(table for table in self.tables if rank in table.work)
        last = next(table for table in reversed(self.tables) if rank in table.work)
        return first.start[rank], last.end[rank]


class Comparison:
    """How much more each rank has than the median of the others that do the same, step by step."""

    def __init__(
        self,
        quantity: Quantity,
        tables: Sequence[StepTable],
        cohorts: Sequence[Sequence[int]],
        pause: Callable[[], None],
    ) -> None:
        self._quantity, self._tables, self._cohorts, self._pause = quantity, tables, cohorts, pause
        self._column = attrgetter(quantity)
        self._medians: dict[tuple[int, int], _Middle | None] = {}

    def excess(self, rank: int) -> list[float]:
        """In the order of steps; without those where it is not known."""
        return [value - baseline for value, baseline in self._against(rank)]

    def baseline(self, rank: int) -> float:
        """The median of what the others have."""
        return median(baseline for _, baseline in self._against(rank))

    def above(self, least: float) -> list[int]:
        """Ranks whose median excess is larger."""
        return [
            rank
            for cohort in self._cohorts
            for rank in self._candidates(cohort, least)
            if (excess := self.excess(rank)) and median(excess) > least
        ]

    def outliers(self, least: float) -> dict[int, dict[int, float]]:
        """By rank and place of the step, excesses that are larger."""
        found: dict[int, dict[int, float]] = defaultdict(dict)
        for place, table in enumerate(self._tables):
            self._pause()
            column: array[float] = self._column(table)
            for number, cohort in enumerate(self._cohorts):
                medians = self._middle(place, number)
                if medians is None:
                    continue
                lowest = min(medians[:3]) + least
                for rank in cohort:
                    if column[rank] > lowest and (more := column[rank] - _baseline(medians, column[rank])) > least:
                        found[rank][place] = more
        return found

    def _candidates(self, cohort: Sequence[int], least: float) -> Sequence[int]:
        if len(cohort) < _MANY:
            return cohort
        columns = [self._column(table) for table in self._tables]
        last = min(map(len, columns))
        by_rank = dict(enumerate(map(_middle_of, zip(*(column[:last] for column in columns), strict=True))))
        usual = median(known([by_rank.get(rank, math.nan) for rank in cohort]))
        return [rank for rank in cohort if by_rank.get(rank, math.nan) > usual + least / 2]

    def _against(self, rank: int) -> list[tuple[float, float]]:
        """By step, the rank's value and that of the others."""
        number = next(place for place, cohort in enumerate(self._cohorts) if rank in cohort)
        found = []
        for place, table in enumerate(self._tables):
            if rank in table and (value := self._column(table)[rank]) == value:
                medians = self._middle(place, number)
                if medians is not None:
                    found.append((value, _baseline(medians, value)))
        return found

    def _middle(self, place: int, number: int) -> _Middle | None:
        key = place, number
        if key not in self._medians:
            self._pause()
            table, cohort = self._tables[place], self._cohorts[number]
            column: array[float] = self._column(table)
            if len(cohort) == len(table):
                self._medians[key] = table.once(self._quantity, lambda: _middle_in(column))
            else:
                self._medians[key] = _middle_in(column[rank] for rank in cohort if rank in table)
        return self._medians[key]


def standing_out(counts: Mapping[int, int], ranks: int) -> dict[int, int]:
    """The ranks whose count is several times that of all others, each with the largest count of those: one rank,
    and in a large job one more for every ``_FEW``, up to ``_MOST_NAMED``."""
    ordered = sorted(counts, key=lambda rank: (-counts[rank], rank))
    for place in range(1, min(1 + ranks // _FEW, _MOST_NAMED) + 1):
        others = counts[ordered[place]] if place < len(ordered) else 0
        if place <= len(ordered) and counts[ordered[place - 1]] >= limit.PAUSES_RATIO * max(1, others):
            return dict.fromkeys(ordered[:place], others)
    return {}


def rest_of(named: Collection[int]) -> str:
    """The ranks that those in ``named`` stand out from, for a sentence that goes on with what none of them has."""
    return "no other rank" if len(named) == 1 else "of the ranks that are not named none"


def _middle_in(values: Iterable[float]) -> _Middle | None:
    ordered = sorted(known(values))
    return _without_one(ordered) if len(ordered) > 1 else None


def _middle_of(values: tuple[float, ...]) -> float:
    total = sum(values)
    return median(values if total == total else known(values))  # noqa: PLR0124 - NaN is not


def _baseline(medians: _Middle, value: float) -> float:
    below, equal, above, middle = medians
    return below if value < middle else above if value > middle else equal


def _without_one(ordered: list[float]) -> _Middle:
    """The median of ``ordered`` without a value below its middle, without the middle, without one above it; and
    what the middle is."""
    count = len(ordered)
    half = count // 2
    if count % 2 == 0:
        low, high = ordered[half - 1], ordered[half]
        return high, high, low, low
    middle, low, high = ordered[half], ordered[half - 1], ordered[half + 1]
    return (middle + high) / 2, (low + high) / 2, (low + middle) / 2, middle
