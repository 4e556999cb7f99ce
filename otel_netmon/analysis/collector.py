"""Sums up one run's records while they are read."""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from otel_netmon import semconv
from otel_netmon.analysis.nics import NicTotals
from otel_netmon.analysis.reader import Point, Problems, Span, whole
from otel_netmon.analysis.results import Losses, Operation, Steps, Summary
from otel_netmon.analysis.waiting import Matcher


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile of ascending values, one of them; ``None`` when there are none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


class _Tally:
    """The calls of one operation on one group."""

    def __init__(self) -> None:
        self.ranks: set[int] = set()
        self.group_size: int | None = None
        self.calls = self.failed = self.unfinished = self.size = 0
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
        self._tallies: dict[tuple[str, str, str], _Tally] = defaultdict(_Tally)
        self._matcher = Matcher()
        self._nics = NicTotals()
        self._spans_by: Counter[str] = Counter()
        self._counted: dict[tuple[str, str], float] = {}
        self._dropped: dict[tuple[str, str], float] = {}

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
        if step is not None and span.attributes.get(semconv.STEP_INCOMPLETE) is not True:
            of = 0 if span.name == semconv.SPAN_TRAIN_STEP or rank is None else rank
            self._times[span.name][trace, of] = (span.end - span.start) / 1e9

    def _collective(self, span: Span, trace: int, rank: int | None, operation: str) -> None:
        get = span.attributes.get
        group, backend = str(get(semconv.GROUP_NAME, "")), str(get(semconv.BACKEND, ""))
        tally = self._tallies[operation, group, backend]
        tally.calls += 1
        self._spans_by[span.source.instance] += 1
        if rank is not None:
            tally.ranks.add(rank)
        group_size = whole(get(semconv.GROUP_SIZE))
        tally.group_size = tally.group_size or group_size
        size = whole(get(semconv.COLLECTIVE_SIZE))
        tally.size += size or 0
        state = get(semconv.COLLECTIVE_STATE)
        algbw = get(semconv.COLLECTIVE_ALGBW)
        if state is not None or (size and algbw is None and get(semconv.ERROR_TYPE) is None):
            self._spans_by[span.source.instance] -= 1  # the histogram counts only those with a duration
        if get(semconv.ERROR_TYPE) is not None:
            tally.failed += 1
        elif state == semconv.STATE_IN_FLIGHT:
            tally.unfinished += 1
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
            _last(self._dropped, str(point.attributes.get(semconv.DROP_REASON, "")), point)
        elif point.metric == semconv.COLLECTIVE_DURATION_METRIC.name:
            _last(self._counted, repr(sorted(point.attributes.items())), point)

    def summary(self, folder: Path, files: int, size: int, problems: Problems) -> Summary:
        """What it came to; the arguments are passed on."""
        step_time = self._step_time()
        return Summary(
            ranks=tuple(sorted(self._ranks)),
            world_size=self._world_size,
            runs=tuple(sorted(self._runs)),
            steps=self._steps(),
            operations=tuple(_operation(*item) for item in sorted(self._tallies.items())),
            waiting=self._matcher.measure(self._step_of, step_time) if self._tallies else None,
            nics=self._nics.totals(),
            losses=Losses(
                dropped=_by_reason(self._dropped.items()) if self._dropped else None,
                missing_spans=self._missing_spans(),
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
        for name in (semconv.SPAN_TRAIN_STEP, semconv.SPAN_RANK_STEP):
            if times := self._times.get(name):
                ordered = sorted(times.values())
                count = len({trace for trace, _ in times})
                return Steps(count, name, percentile(ordered, 0.5), percentile(ordered, 0.99))
        return None

    def _step_time(self) -> float | None:
        """Seconds of all steps but the first: each step's longest rank_step, or its train_step."""
        longest: dict[int, float] = {}
        for times in self._times.values():
            for (trace, _), seconds in times.items():
                if self._step_of.get(trace) != 0:
                    longest[trace] = max(seconds, longest.get(trace, 0.0))
        return sum(longest.values()) or None

    def _missing_spans(self) -> int | None:
        if not self._counted:
            return None
        counted: Counter[str] = Counter()
        for (instance, _), count in self._counted.items():
            counted[instance] += int(count)
        return sum(max(0, count - self._spans_by[instance]) for instance, count in counted.items())


def _operation(key: tuple[str, str, str], tally: _Tally) -> Operation:
    operation, group, backend = key
    ordered = sorted(tally.durations)
    return Operation(
        operation,
        group,
        backend,
        tally.group_size,
        len(tally.ranks),
        tally.calls,
        tally.failed,
        tally.unfinished,
        tally.size,
        percentile(ordered, 0.5),
        percentile(ordered, 0.99),
        tally.algbw.value(),
        tally.busbw.value(),
    )


def _last(values: dict[tuple[str, str], float], series: str, point: Point) -> None:
    """Keep a process's running total: the last point of a cumulative series, the sum of a delta one."""
    key = (point.source.instance, series)
    values[key] = point.value + (values.get(key, 0) if point.delta else 0)


def _by_reason(values: Iterable[tuple[tuple[str, str], float]]) -> dict[str, int]:
    reasons: Counter[str] = Counter()
    for (_, reason), count in values:
        reasons[reason] += int(count)
    return dict(reasons)
