"""What the metrics counted: all steps and collectives of each process, whether their spans were sampled or not."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from otel_netmon import semconv
from otel_netmon.analysis.reader import Point

Key = tuple[str, str, str]
"""An operation, a group, a backend."""

_DURATIONS: Final = semconv.COLLECTIVE_DURATION_METRIC.name
_SIZES: Final = semconv.COLLECTIVE_SIZE_METRIC.name
_BYTES: Final = semconv.COLLECTIVE_IO_METRIC.name
_STEPS: Final = semconv.STEP_DURATION_METRIC.name
_KEY: Final = (semconv.COLLECTIVE_NAME, semconv.GROUP_NAME, semconv.BACKEND)


@dataclass
class Amount:
    """Calls of one operation on one group in one process, those that failed or did not end, and their bytes."""

    calls: int = 0
    failed: int = 0
    unfinished: int = 0
    size: int = 0
    rank: int | None = None


class Totals:
    """The last value of each series: a process's running total. Memory: one entry per series."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], float] = {}

    def add(self, series: str, point: Point) -> tuple[str, str]:
        """Take one point, in the order of time: the last of a cumulative series, the sum of a delta one."""
        key = (point.source.instance, series)
        self.values[key] = point.value + (self.values.get(key, 0) if point.delta else 0)
        return key


class Counted:
    """Takes points; what comes out is by process, which its instance id names."""

    def __init__(self) -> None:
        self._totals = Totals()
        self._about: dict[tuple[str, str], tuple[str, Key | None, bool]] = {}
        self.ranks: dict[str, int | None] = {}
        """Of the processes that counted steps or collectives."""
        self.world_size: int | None = None

    def add(self, point: Point) -> bool:
        """Take one point; False if it is none of ours."""
        if point.metric not in (_DURATIONS, _SIZES, _BYTES, _STEPS):
            return False
        series = self._totals.add(f"{point.metric} {sorted(point.attributes.items())!r}", point)
        names = [point.attributes.get(name) for name in _KEY]
        key = (str(names[0]), str(names[1] or ""), str(names[2] or "")) if isinstance(names[0], str) else None
        self._about[series] = point.metric, key, semconv.ERROR_TYPE in point.attributes
        self.ranks[point.source.instance] = point.source.rank
        if point.source.world_size is not None:
            self.world_size = max(point.source.world_size, self.world_size or 0)
        return True

    def steps(self) -> dict[str, int]:
        """Complete steps of each process that counts them."""
        return {
            instance: int(value)
            for (instance, series), value in self._totals.values.items()
            if self._about[instance, series][0] == _STEPS
        }

    def collectives(self) -> dict[tuple[str, Key | None], Amount]:
        """By process and kind; ``None`` for what a metric counts without saying what it was.

        A call without a known duration is only in the histogram of sizes, one without a buffer only in that of
        durations.
        """
        calls: dict[tuple[str, Key | None], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        found: dict[tuple[str, Key | None], Amount] = defaultdict(Amount)
        for (instance, series), value in self._totals.values.items():
            metric, key, has_failed = self._about[instance, series]
            if metric == _STEPS:
                continue
            amount = found[instance, key]
            amount.rank = self.ranks[instance]
            if metric == _BYTES:
                amount.size += int(value)
            else:
                calls[instance, key][metric] += int(value)
                if has_failed and metric == _DURATIONS:
                    amount.failed += int(value)
        for place, by_metric in calls.items():
            found[place].calls = max(by_metric.values())
        return dict(found)
