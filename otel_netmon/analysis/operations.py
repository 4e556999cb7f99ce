"""The calls of each operation on each group: those with spans, those that were not sampled, and all counted."""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence

from otel_netmon import semconv
from otel_netmon.analysis.counted import Amount, Key
from otel_netmon.analysis.results import OperationSummary
from otel_netmon.records import Collective, RankStep


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """The nearest-rank percentile of ascending values, one of them; ``None`` when there are none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def seconds_of(one: Collective) -> float | None:
    """How long a collective took; ``None`` where it failed, or that is not known."""
    if one.error is not None or one.state is not None or (one.algbw is None and one.size):
        return None  # with bytes and without algbw it ended on a device: its span says when it was enqueued
    return (one.end - one.start) / 1e9 if one.device_duration is None else one.device_duration


class _WeightedMean:
    def __init__(self) -> None:
        self._sum = self._weight = 0.0

    def add(self, value: float | None, weight: float) -> None:
        if value is not None and weight > 0:
            self._sum += value * weight
            self._weight += weight

    def value(self) -> float | None:
        return self._sum / self._weight if self._weight else None


class _CallStats:
    """Of one operation on one group; by process, what the metrics are held against."""

    def __init__(self) -> None:
        self.ranks: set[int] = set()
        self.group_size: int | None = None
        self.by: dict[str, Amount] = defaultdict(Amount)
        self.durations: array[float] = array("d")
        self.algbw = _WeightedMean()
        self.busbw = _WeightedMean()
        self.has_sizes = True

    def merge(self, other: _CallStats) -> None:
        """Add those of another process."""
        self.ranks |= other.ranks
        self.by.update(other.by)
        self.durations.extend(other.durations)
        self.has_sizes &= other.has_sizes


class Operations:
    """Takes collectives, and steps whose collectives have no spans."""

    def __init__(self) -> None:
        self._spans: dict[Key, _CallStats] = defaultdict(_CallStats)
        self._unsampled: dict[tuple[str, str, str], _CallStats] = defaultdict(_CallStats)
        """By process, operation and group: a step does not tell the backend."""

    def add(self, one: Collective, rank: int | None, instance: str, seconds: float | None) -> None:
        """A collective that has a span; ``seconds`` as ``seconds_of`` says."""
        calls = self._spans[one.operation, one.group or "", one.backend or ""]
        own = calls.by[instance]
        own.calls += 1
        own.size += one.size or 0
        if rank is not None:
            calls.ranks.add(rank)
        if calls.group_size is None:
            calls.group_size = one.group_size
        if seconds is not None:
            calls.durations.append(seconds)
            calls.algbw.add(one.algbw, seconds)
            calls.busbw.add(one.busbw, seconds)
        elif one.error is not None:
            own.failed += 1
        elif one.state == semconv.STATE_IN_FLIGHT:
            own.unfinished += 1

    def add_step(self, step: RankStep, rank: int | None, instance: str) -> None:
        """A step that was not sampled: what its packed calls and groups tell."""
        counts: Counter[tuple[str, str]] = Counter()
        for call in step.calls:
            counts[call.operation, call.group] += 1
            if call.duration is not None:
                self._unsampled[instance, call.operation, call.group].durations.append(call.duration / 1e6)
        used = {use.group: use for use in step.groups}
        kinds = Counter(group for _, group in counts)
        for (operation, group), count in counts.items():
            calls, use = self._unsampled[instance, operation, group], used.get(group)
            own = calls.by[instance]
            if use is not None and kinds[group] == 1:  # it did nothing else, also beyond the calls that are packed
                own.calls += use.calls
                own.size += use.size
            else:
                own.calls += count
                calls.has_sizes = False
            if rank is not None:
                calls.ranks.add(rank)

    def group_sizes(self) -> dict[str, int]:
        """By name, as far as spans tell."""
        return {group: of.group_size for (_, group, _), of in self._spans.items() if of.group_size is not None}

    def ended(self) -> dict[str, dict[Key, int]]:
        """By process, calls that ended and have a span."""
        found: dict[str, dict[Key, int]] = defaultdict(dict)
        for key, of in self._spans.items():
            for instance, own in of.by.items():
                found[instance][key] = own.calls - own.unfinished
        return found

    def summaries(
        self, counted: Mapping[tuple[str, Key | None], Amount], apart: Collection[str]
    ) -> tuple[OperationSummary, ...]:
        """All of them. Calls of the processes ``apart`` may be counted in a step and have a span all the same."""
        by_key: dict[Key, dict[str, Amount]] = {key: {} for key in self._spans}
        for (instance, key), amount in counted.items():
            if key is not None and amount.calls:
                by_key.setdefault(key, {})[instance] = amount
        with_backend: dict[tuple[str, str], list[Key]] = defaultdict(list)
        for key in by_key:
            if key[2]:
                with_backend[key[:2]].append(key)
        unsampled: dict[Key, _CallStats] = defaultdict(_CallStats)
        for (instance, operation, group), calls in self._unsampled.items():
            if instance not in apart:
                backends = with_backend.get((operation, group), ())
                key = backends[0] if len(backends) == 1 else (operation, group, "")
                by_key.setdefault(key, {})
                unsampled[key].merge(calls)
        return tuple(
            _summary(key, self._spans.get(key) or _CallStats(), unsampled.get(key) or _CallStats(), amounts)
            for key, amounts in sorted(by_key.items())
        )


def _summary(key: Key, spans: _CallStats, others: _CallStats, counted: Mapping[str, Amount]) -> OperationSummary:
    ordered = sorted(spans.durations + others.durations)
    nothing = Amount()
    amounts = [
        (spans.by.get(each, nothing), others.by.get(each, nothing), counted.get(each, nothing))
        for each in {*spans.by, *others.by, *counted}
    ]
    size = sum(max(own.size + other.size, count.size) for own, other, count in amounts)
    ranks = spans.ranks | others.ranks | {each.rank for each in counted.values() if each.rank is not None}
    return OperationSummary(
        *key,
        spans.group_size,
        len(ranks),
        sum(max(own.calls + other.calls, count.calls) for own, other, count in amounts),
        sum(own.calls for own, _, _ in amounts),
        sum(max(own.failed, count.failed) for own, _, count in amounts),
        sum(own.unfinished for own, _, _ in amounts),
        size if others.has_sizes or counted else None,
        percentile(ordered, 0.5),
        percentile(ordered, 0.99),
        spans.algbw.value(),
        spans.busbw.value(),
        len(ordered),
    )
