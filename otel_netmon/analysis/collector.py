"""Sums up one run's records while they are read."""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from otel_netmon import semconv
from otel_netmon.analysis.apart import StepNumbers
from otel_netmon.analysis.counted import Amount, Counted, Key, Totals
from otel_netmon.analysis.coverage import Coverage
from otel_netmon.analysis.nics import NicTotals
from otel_netmon.analysis.reader import Point, Problems, Span, whole
from otel_netmon.analysis.results import Losses, Operation, Steps, Summary
from otel_netmon.analysis.waiting import Matcher


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile of ascending values, one of them; ``None`` when there are none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


class _Tally:
    """The calls of one operation on one group that have a span; by process, what the metrics are held against."""

    def __init__(self) -> None:
        self.ranks: set[int] = set()
        self.group_size: int | None = None
        self.unfinished = 0
        self.by: dict[str, Amount] = defaultdict(Amount)
        self.durations: array[float] = array("d")
        self.algbw = _WeightedMean()
        self.busbw = _WeightedMean()


class _WeightedMean:
    def __init__(self) -> None:
        self._sum = self._weight = 0.0

    def add(self, value: Any, weight: float) -> None:
        if isinstance(value, int | float) and weight > 0:
            self._sum += value * weight
            self._weight += weight

    def value(self) -> float | None:
        return self._sum / self._weight if self._weight else None


class Collector:
    """Takes spans and points in any order of files; ``summary`` at the end."""

    def __init__(self) -> None:
        self.records = 0
        self._ranks: set[int] = set()
        self._world_size: int | None = None
        self._runs: set[str] = set()
        self._traces: dict[str, int] = {}
        self._step_of: dict[int, int] = {}
        self._times: dict[str, dict[tuple[int, int], float]] = defaultdict(dict)
        self._tallies: dict[Key, _Tally] = defaultdict(_Tally)
        self._numbers = StepNumbers()
        self._matcher = Matcher()
        self._nics = NicTotals()
        self._counted = Counted()
        self._dropped = Totals()
        self._coverage = Coverage()

    def span(self, span: Span) -> None:
        """Take one span."""
        self.records += 1
        get = span.attributes.get
        rank = whole(get(semconv.RANK))
        if rank is None:
            rank = span.source.rank
        trace = self._traces.setdefault(span.trace_id, len(self._traces))
        if span.name in semconv.SPAN_PERIODS:
            self._step(span, trace, rank)
        elif isinstance(operation := get(semconv.COLLECTIVE_NAME), str):
            self._collective(span, trace, rank, operation)
        else:
            return  # somebody else's span
        if rank is not None:
            self._ranks.add(rank)
        size = whole(get(semconv.WORLD_SIZE)) or span.source.world_size
        if size is not None:
            self._world_size = max(size, self._world_size or 0)

    def _step(self, span: Span, trace: int, rank: int | None) -> None:
        step, run = whole(span.attributes.get(semconv.STEP)), span.attributes.get(semconv.RUN_ID)
        if step is not None:
            self._step_of[trace] = step
        elif span.name in (semconv.SPAN_SETUP, semconv.SPAN_RANK_SETUP):
            self._step_of[trace] = -1
        if isinstance(run, str):
            self._runs.add(run)
        self._coverage.period(span, trace, rank)
        if step is not None and span.attributes.get(semconv.STEP_INCOMPLETE) is not True:
            of = 0 if span.name == semconv.SPAN_TRAIN_STEP or rank is None else rank
            if span.name == semconv.SPAN_RANK_STEP and rank is not None:
                self._numbers.add(trace, rank, step)
            self._times[span.name][trace, of] = (span.end - span.start) / 1e9

    def _collective(self, span: Span, trace: int, rank: int | None, operation: str) -> None:
        get = span.attributes.get
        group, backend = str(get(semconv.GROUP_NAME, "")), str(get(semconv.BACKEND, ""))
        tally = self._tallies[operation, group, backend]
        own = tally.by[span.source.instance]
        own.calls += 1
        self._coverage.collective(span.source.instance, trace, rank)
        if rank is not None:
            tally.ranks.add(rank)
        group_size = whole(get(semconv.GROUP_SIZE))
        tally.group_size = tally.group_size or group_size
        size = whole(get(semconv.COLLECTIVE_SIZE))
        own.size += size or 0
        state = get(semconv.COLLECTIVE_STATE)
        algbw = get(semconv.COLLECTIVE_ALGBW)
        if get(semconv.ERROR_TYPE) is not None:
            own.failed += 1
        elif state == semconv.STATE_IN_FLIGHT:
            tally.unfinished += 1
            own.unfinished += 1
        elif state is None and (algbw is not None or not size):
            # A call without algbw but with bytes ended on a device: its span says when it was enqueued.
            on_device = get(semconv.COLLECTIVE_DEVICE_DURATION)
            seconds = on_device if isinstance(on_device, float) else (span.end - span.start) / 1e9
            tally.durations.append(seconds)
            tally.algbw.add(algbw, seconds)
            tally.busbw.add(get(semconv.COLLECTIVE_BUSBW), seconds)
            sequence = whole(get(semconv.COLLECTIVE_SEQUENCE))
            if rank is not None and sequence is not None and group_size is not None:
                self._matcher.add((trace, group, operation), sequence, group_size, rank, seconds)

    def point(self, point: Point) -> None:
        """Take one data point; each series in the order of time."""
        self.records += 1
        if point.metric == semconv.NIC_IO.name:
            self._nics.add(point)
        elif point.metric == semconv.EVENTS_DROPPED.name:
            self._dropped.add(str(point.attributes.get(semconv.DROP_REASON, "")), point)
        else:
            self._counted.add(point)

    def summary(self, folder: Path, files: int, size: int, problems: Problems) -> Summary:
        """What it came to; the arguments are passed on."""
        step_time = self._step_time()
        collectives = self._counted.collectives()
        missing, sampled_out = self._coverage.of(
            {key: tally.by for key, tally in self._tallies.items()}, collectives, self._counted.steps()
        )
        counting = {rank for rank in self._counted.ranks.values() if rank is not None}
        return Summary(
            ranks=tuple(sorted(self._ranks)),
            silent_ranks=tuple(sorted(counting - self._ranks)),
            world_size=max(self._world_size or 0, self._counted.world_size or 0) or None,
            runs=tuple(sorted(self._runs)),
            steps=self._steps(),
            apart=self._numbers.apart(),
            operations=self._operations(collectives),
            waiting=self._matcher.measure(self._step_of, step_time) if self._tallies else None,
            nics=self._nics.totals(),
            losses=Losses(
                dropped=_by_reason(self._dropped.values.items()) if self._dropped.values else None,
                missing_spans=missing,
                sampled_out=sampled_out,
                truncated_lines=problems.truncated,
                corrupt_lines=problems.corrupt,
                bad_records=problems.records,
                skipped_files=problems.files,
            ),
            folder=str(folder),
            files=files,
            size=size,
        )

    def _steps(self) -> Steps | None:
        counted = self._coverage.steps(self._counted.steps())
        for name in (semconv.SPAN_TRAIN_STEP, semconv.SPAN_RANK_STEP):
            if times := self._times.get(name):
                ordered = sorted(times.values())
                traced = len({trace for trace, _ in times})
                count = max(traced, counted or 0)
                numbered = self._coverage.numbered()
                return Steps(count, traced, numbered, name, percentile(ordered, 0.5), percentile(ordered, 0.99))
        return None if counted is None else Steps(counted, 0, None, None, None, None)

    def _operations(self, counted: Mapping[tuple[str, Key | None], Amount]) -> tuple[Operation, ...]:
        by_key: dict[Key, dict[str, Amount]] = {key: {} for key in self._tallies}
        for (instance, key), amount in counted.items():
            if key is not None and amount.calls:
                by_key.setdefault(key, {})[instance] = amount
        return tuple(
            _operation(key, self._tallies.get(key) or _Tally(), amounts) for key, amounts in sorted(by_key.items())
        )

    def _step_time(self) -> float | None:
        """Seconds of all steps but the first: each step's longest rank_step, or its train_step."""
        longest: dict[int, float] = {}
        for times in self._times.values():
            for (trace, _), seconds in times.items():
                if self._step_of.get(trace) != 0:
                    longest[trace] = max(seconds, longest.get(trace, 0.0))
        return sum(longest.values()) or None


def _operation(key: Key, tally: _Tally, counted: Mapping[str, Amount]) -> Operation:
    """All calls, by the metrics where they count more than there are spans: of those that were not sampled."""
    operation, group, backend = key
    ordered = sorted(tally.durations)
    pairs = [(tally.by.get(each, Amount()), counted.get(each, Amount())) for each in {*tally.by, *counted}]
    return Operation(
        operation,
        group,
        backend,
        tally.group_size,
        len(tally.ranks | {amount.rank for amount in counted.values() if amount.rank is not None}),
        sum(max(own.calls, other.calls) for own, other in pairs),
        sum(own.calls for own, _ in pairs),
        sum(max(own.failed, other.failed) for own, other in pairs),
        tally.unfinished,
        sum(max(own.size, other.size) for own, other in pairs),
        percentile(ordered, 0.5),
        percentile(ordered, 0.99),
        tally.algbw.value(),
        tally.busbw.value(),
    )


def _by_reason(values: Iterable[tuple[tuple[str, str], float]]) -> dict[str, int]:
    reasons: Counter[str] = Counter()
    for (_, reason), count in values:
        reasons[reason] += int(count)
    return dict(reasons)
