"""Collects what the pictures of a run need, beside its summary and in the same pass over the files."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from otel_netmon.analysis.bandwidths import Bandwidths
from otel_netmon.analysis.details import Bandwidth, Details, Event, RankTime
from otel_netmon.analysis.inside import PauseTable, choose, inside, shown
from otel_netmon.analysis.last_calls import last_calls
from otel_netmon.analysis.lateness import by_sums, in_step
from otel_netmon.analysis.links import links
from otel_netmon.analysis.overlap import Overlaps
from otel_netmon.analysis.waiting import Matcher, Part
from otel_netmon.diagnosis.evidence import Evidence
from otel_netmon.diagnosis.finding import Finding
from otel_netmon.diagnosis.medians import known, median
from otel_netmon.diagnosis.steps import StepTable
from otel_netmon.records import RankStep, Verdict

_MOST_RANKS: Final = 1 << 20
_MOST_EVENTS: Final = 400
"""Of a kind: the longest ones, and the last verdicts."""
_EVENT: Final = 0.25
"""Of a median step: a pause of that length is an event."""


class DetailCollector:
    """Takes steps and live verdicts. Memory: some 20 bytes for each pause of a rank's step."""

    def __init__(self) -> None:
        self._pauses = PauseTable()
        self._overlaps = Overlaps()
        self._verdicts: list[Verdict] = []
        self._services: set[str] = set()

    def add_step(self, step: RankStep, trace: int, rank: int | None) -> None:
        """A step on one rank."""
        if rank is None or not 0 <= rank < _MOST_RANKS:
            return
        self._overlaps.add(step, rank)
        if step.source is not None and step.source.service is not None:
            self._services.add(step.source.service)
        for pause in step.pauses if step.step else ():
            self._pauses.add(trace, rank, *pause)

    def add_verdict(self, verdict: Verdict) -> None:
        """What the live diagnosis said."""
        self._verdicts.append(verdict)

    def details(self, matching: Matching, run: str | None, evidence: Evidence, finding: Finding | None) -> Details:
        """Of one run, whose costliest finding is given."""
        numbers = sorted(number for number in evidence.steps if number > 0)
        grid = _Grid(matching, [(number, evidence.steps[number]) for number in numbers])
        picked = choose(numbers, grid.times, grid.lateness, sorted(grid.matched), finding)
        ranks = shown(sorted(grid.lateness), matching.caused)
        pauses = self._pauses.of([matching.traces[numbers[column]] for column, _ in picked])
        pictures = tuple(
            inside(
                numbers[column],
                why,
                evidence.steps[numbers[column]],
                matching.parts(matching.traces[numbers[column]]),
                ranks=ranks,
                pauses=partial(pauses, matching.traces[numbers[column]]),
            )
            for column, why in picked
        )
        overlaps, unknown = self._overlaps.of(run)
        return Details(
            run_id=run,
            services=tuple(sorted(self._services)),
            hosts=dict(sorted(evidence.hosts.items())),
            steps=tuple(numbers),
            step_times=grid.times,
            lateness=dict(sorted(grid.lateness.items())),
            times=grid.rank_times(),
            events=(*grid.events(), *self._said(run, evidence, numbers)),
            inside=pictures,
            bandwidths=matching.bandwidths(),
            links=links(evidence.traffic, evidence.hosts),
            overlaps=overlaps,
            last_calls=last_calls(evidence),
            by_sums=grid.by_sums,
            unknown_overlaps=unknown,
        )

    def _said(self, run: str | None, evidence: Evidence, numbers: Sequence[int]) -> list[Event]:
        """Live verdicts in the step in which they were said: the first that ended after them, by the clock of the
        rank that says it."""
        found = []
        for verdict in self._verdicts:
            if verdict.run_id not in (None, run):
                continue
            rank = verdict.source.rank if verdict.source is not None else None
            own = [number for number in numbers if rank is not None and rank in evidence.steps[number]]
            ends = (number for number in own if evidence.steps[number].end[rank or 0] >= verdict.time)
            step = next(ends, verdict.last_step)
            if step is not None:
                who = (
                    f" of rank {verdict.ranks}"
                    if verdict.ranks
                    else f" at {verdict.hosts}"
                    if verdict.hosts
                    else ""
                )
                over = " is over" if verdict.is_over else ""
                found.append(Event(step, "verdict", f"live: {verdict.kind}{who}{over}"))
        return sorted(found)[-_MOST_EVENTS:]


@dataclass
class Matching:
    """The matched collectives of a folder, and the steps of one run among them."""

    matcher: Matcher
    sizes: Mapping[str, int]
    """Of groups."""
    traces: Mapping[int, int]
    """Of the run's steps, by number."""
    steps: Mapping[int, int]
    """The numbers of all traces that are steps, or -1 of what came before the first."""
    caused: Mapping[int, float]
    """By rank, as the summary says."""

    def __post_init__(self) -> None:
        self.places = self.matcher.by_trace()

    def parts(self, trace: int) -> list[Part]:
        """Those of a trace that were seen on all their ranks."""
        parts = (part for where in self.places.get(trace, ()) for part in self.matcher.parts(where, self.sizes))
        return [part for part in parts if part is not None]

    def bandwidths(self) -> tuple[Bandwidth, ...]:
        """Of all collectives, but those of the first step."""
        found = Bandwidths()
        for trace in self.places:
            if self.steps.get(trace, 1) > 0:
                for part in self.parts(trace):
                    found.add(part)
        return found.measure()


class _Grid:
    """Ranks by steps. Memory: 4 bytes for each, and some for each rank."""

    def __init__(self, matching: Matching, steps: Sequence[tuple[int, StepTable]]) -> None:
        self._steps = steps
        self.times = array("d", (max(known(table.duration)) for _, table in steps))
        self._median = median(self.times)
        self.by_sums = 0
        """Columns without, but with lateness."""
        self.matched: set[int] = set()
        """Columns with a collective that was seen on all its ranks."""
        ranks = {rank for _, table in steps for rank in table}
        self.lateness = {rank: array("f", bytes(4 * len(steps))) for rank in sorted(ranks)}
        self._sums = {rank: array("d", bytes(8 * 11)) for rank in sorted(ranks)}
        for column, (number, table) in enumerate(steps):
            places = matching.places.get(matching.traces.get(number, -1), ())
            waited, lateness = in_step(matching.matcher, places, matching.sizes)
            if waited:
                self.matched.add(column)
            else:
                lateness = by_sums(table)
                self.by_sums += bool(lateness)
            for rank, seconds in lateness.items():
                if rank in self.lateness:
                    self.lateness[rank][column] = seconds
            for rank in table:
                self._add(rank, table, waited.get(rank))

    def _add(self, rank: int, table: StepTable, waited: float | None) -> None:
        """A step of a rank, in the order of ``RankTime``; its parts add up."""
        sums, total, own = self._sums[rank], table.duration[rank], table.own[rank]
        sums[0] += 1
        sums[1] += total
        run_queue = table.run_queue[rank]
        if not math.isnan(run_queue):
            sums[9] += run_queue
            sums[10] += 1
        if math.isnan(own):
            sums[8] += total
            return
        inside = total - own
        data = 0.0 if math.isnan(table.data[rank]) else min(own, table.data[rank])
        gc = 0.0 if math.isnan(table.gc[rank]) else min(own - data, table.gc[rank])
        sums[2] += own - data - gc
        sums[3] += data
        sums[4] += gc
        if waited is None:
            sums[7] += inside
        else:
            waited = min(waited, inside)
            sums[5] += inside - waited
            sums[6] += waited

    def rank_times(self) -> tuple[RankTime, ...]:
        """By rank."""
        return tuple(
            RankTime._make((rank, int(sums[0]), *sums[1:9], sums[9] if sums[10] else None))
            for rank, sums in self._sums.items()
        )

    def events(self) -> list[Event]:
        """The longest pause of each step, where it is one to speak of."""
        found: dict[str, list[Event]] = defaultdict(list)
        for number, table in self._steps:
            for kind, column in (("data", table.data), ("gc", table.gc)):
                seconds, rank = max((-1.0 if math.isnan(column[rank]) else column[rank], -rank) for rank in table)
                if seconds >= _EVENT * self._median:
                    found[kind].append(Event(number, kind, "", -rank, seconds))
        longest = [sorted(of, key=lambda each: -(each.seconds or 0))[:_MOST_EVENTS] for of in found.values()]
        return sorted(each for of in longest for each in of)
