"""What the metrics counted: all steps and collectives of each process, whether their spans were sampled or not."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any, Final

from otel_netmon import semconv
from otel_netmon.records import HostSample, Source

Key = tuple[str, str, str]
"""An operation, a group, a backend."""

_DURATIONS: Final = semconv.COLLECTIVE_DURATION_METRIC.name
_BYTES: Final = semconv.COLLECTIVE_IO_METRIC.name
_STEPS: Final = semconv.STEP_DURATION_METRIC.name
_DROPPED: Final = semconv.EVENTS_DROPPED.name
_OF_COLLECTIVES: Final = (_DURATIONS, semconv.COLLECTIVE_SIZE_METRIC.name, _BYTES)
_COUNTED: Final = frozenset((*_OF_COLLECTIVES, _STEPS, _DROPPED))
_KEY: Final = (semconv.COLLECTIVE_NAME, semconv.GROUP_NAME, semconv.BACKEND)


@dataclass
class Amount:
    """Calls of one operation on one group in one process, those that failed or did not end, and their bytes."""

    calls: int = 0
    failed: int = 0
    unfinished: int = 0
    size: int = 0
    rank: int | None = None


class Counted:
    """Takes the points of each series in the order of time: of a cumulative one the last counts, of a delta one
    the sum. What comes out is by process, which its instance id names. Memory: one entry per series."""

    def __init__(self) -> None:
        self._totals: dict[tuple[str, str, frozenset[Any]], float] = {}
        self.ranks: dict[str, int | None] = {}
        """Of the processes that counted steps or collectives."""

    def add(self, sample: HostSample, source: Source) -> None:
        """Take one point."""
        if sample.metric not in _COUNTED:
            return
        series = source.instance, sample.metric, frozenset(sample.attributes.items())
        self._totals[series] = sample.value + (self._totals.get(series, 0) if sample.is_delta else 0)
        if sample.metric != _DROPPED:
            self.ranks[source.instance] = source.rank

    def steps(self) -> dict[str, int]:
        """Complete steps of each process that counts them."""
        return {instance: int(value) for (instance, metric, _), value in self._totals.items() if metric == _STEPS}

    def dropped(self) -> dict[str, int] | None:
        """Events that were lost, by reason; ``None`` where nobody counts them."""
        reasons: Counter[str] = Counter()
        for (_, metric, about), value in self._totals.items():
            if metric == _DROPPED:
                reasons[str(dict(about).get(semconv.DROP_REASON, ""))] += int(value)
        return dict(reasons) if reasons else None

    def collectives(self) -> dict[tuple[str, Key | None], Amount]:
        """By process and kind; ``None`` for what a metric counts without saying what it was.

        A call without a known duration is only in the histogram of sizes, one without a buffer only in that of
        durations.
        """
        calls: dict[tuple[str, Key | None], Counter[str]] = defaultdict(Counter)
        found: dict[tuple[str, Key | None], Amount] = defaultdict(Amount)
        for (instance, metric, about), value in self._totals.items():
            if metric not in _OF_COLLECTIVES:
                continue
            operation, group, backend = (str(dict(about).get(name, "")) for name in _KEY)
            place = instance, (operation, group, backend) if operation else None
            amount = found[place]
            amount.rank = self.ranks[instance]
            if metric == _BYTES:
                amount.size += int(value)
            else:
                calls[place][metric] += int(value)
                if metric == _DURATIONS and any(name == semconv.ERROR_TYPE for name, _ in about):
                    amount.failed += int(value)
        for place, by_metric in calls.items():
            found[place].calls = max(by_metric.values())
        return dict(found)
