"""The collectives of this rank: passively from those the training makes, or by a sweep of its own."""

from __future__ import annotations

import functools
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar, Final

from otel_netmon import semconv
from otel_netmon.job import collective_window
from otel_netmon.job.collective_window import CollectiveWindow, Column, SeriesKey
from otel_netmon.monitors import sweep
from otel_netmon.monitors.base import HISTORY, DirectMonitor
from otel_netmon.monitors.points import Point, Row, points_of
from otel_netmon.monitors.values import CollectiveStats, DistributedMetrics, NetworkMetrics

PERFORMANCE_HISTORY = 1000
"""Entries kept in ``performance_history``."""

_ROWS: Final[tuple[Row, ...]] = (
    (semconv.WINDOW_COUNT, "count"),
    (semconv.WINDOW_P50, "duration_p50"),
    (semconv.WINDOW_P99, "duration_p99"),
    (semconv.WINDOW_BUSBW, "busbw"),
)


class DistributedNetworkMonitor(DirectMonitor):
    """Describes this rank's collectives.

    By default it sends nothing: it reads ``window``, by default the process's own, where the capture of the
    training's collectives leaves what completed lately. A reading costs about 1 µs per collective in the window.

    With ``enable_distributed_measurements=True``, ``measure_distributed_metrics()`` is itself a **collective
    call**: every rank must make it, in the same order among its own collectives, from outside any other. It
    times all_reduces of ``sweep_sizes`` bytes, ``sweep_repetitions`` of each, on a group of its own, made with
    ``sweep_timeout`` seconds; it takes some 0.1 s and up. ``sample()``, which schedulers call, never does that.
    """

    name: ClassVar[str] = "distributed"
    metrics: ClassVar[tuple[semconv.Metric, ...]] = tuple(row[0] for row in _ROWS)

    def __init__(
        self,
        enable_distributed_measurements: bool = False,
        *,
        window: CollectiveWindow | None = None,
        sweep_sizes: Sequence[int] = sweep.SIZES,
        sweep_repetitions: int = sweep.REPETITIONS,
        sweep_timeout: float = 60.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(clock=clock)
        if sweep_repetitions < 1 or min(sweep_sizes, default=0) < 4 or not sweep_timeout > 0:
            raise ValueError("a sweep needs sizes of 4 bytes and more, a repetition and a timeout above 0")
        self._window = collective_window.window if window is None else window
        self._sweep: sweep.Sweep | None = None
        if enable_distributed_measurements:
            self._sweep = sweep.Sweep(tuple(sweep_sizes), sweep_repetitions, sweep_timeout)
        self._allreduce_times: deque[float] = deque(maxlen=HISTORY)
        self._history: deque[NetworkMetrics] = deque(maxlen=PERFORMANCE_HISTORY)
        self._seen = 0
        """Which of the window's collectives were counted; see ``CollectiveWindow.read``."""

    @property
    def allreduce_times(self) -> deque[float]:
        """A copy of the last 100 all_reduce durations (s): the training's, or the sweep's when that is enabled."""
        with self._lock:
            return self._allreduce_times.copy()

    @property
    def performance_history(self) -> deque[NetworkMetrics]:
        """A copy of the last 1,000 measurements, oldest first."""
        with self._lock:
            return self._history.copy()

    def measure_distributed_metrics(self) -> NetworkMetrics:
        """What is known of this rank's collectives now; never raises for want of a process group.

        The result's ``distributed`` part is set, and its ``reason`` says why something in it is missing. With
        measurements enabled this is a collective call: see the class.
        """
        if self._sweep is None:
            return self.read_window()
        try:
            points, durations, backend, ranks = self._sweep.run()
        except sweep.Unavailable as error:
            return self._keep(replace(self._passive(), reason=str(error)))
        with self._lock:
            self._allreduce_times.extend(durations)
        passive = self._passive()
        return self._keep(replace(passive, sweep=points, backend=backend, world_size=ranks, reason=None))

    def sample(self) -> tuple[Point, ...]:
        """Read the window; never a collective call."""
        self.read_window()
        return self.points()

    def read_window(self) -> NetworkMetrics:
        """The passive measurement, also when measurements of our own are enabled; never a collective call."""
        return self._keep(self._passive())

    def _passive(self) -> DistributedMetrics:
        with self._lock:  # the window is memory, not I/O; inside, so that no collective is counted twice
            found, self._seen = self._window.read(self._seen)
            if self._sweep is None:
                self._allreduce_times.extend(
                    t for key, c in found.items() if key.name == "all_reduce" for t in c.fresh
                )
        own = self._sweep.group_name if self._sweep is not None else None
        found = {key: column for key, column in found.items() if key.group != own or own is None}
        overall = Column()
        for column in found.values():
            overall.extend(column)
        return DistributedMetrics(
            window=self._window.seconds,
            overall=_stats((None, None, None), overall) if found else None,
            collectives=tuple(_stats(key, column) for key, column in sorted(found.items())),
            reason=None if found else f"no collective completed in the last {self._window.seconds:g} s",
        )

    def _keep(self, metrics: DistributedMetrics) -> NetworkMetrics:
        result = NetworkMetrics(time=time.time(), distributed=metrics)
        with self._lock:
            self._store(
                point
                for stats in metrics.collectives
                for point in points_of(
                    _ROWS,
                    functools.partial(getattr, stats),
                    (semconv.COLLECTIVE_NAME, stats.name or ""),
                    (semconv.BACKEND, stats.backend or ""),
                    (semconv.GROUP_NAME, stats.group or ""),
                )
            )
            self._history.append(result)
        return result

    def after_fork_in_child(self) -> None:
        super().after_fork_in_child()
        if self._sweep is not None:
            self._sweep.after_fork_in_child()


def _stats(key: SeriesKey | tuple[None, None, None], column: Column) -> CollectiveStats:
    durations = sorted(column.durations)
    busy = sum(durations)
    size = sum(column.sizes)
    moving = sum(column.scaled_durations)
    name, backend, group = key
    return CollectiveStats(
        name=name,
        backend=backend,
        group=group,
        count=len(durations),
        bytes=size,
        duration_p50=_percentile(durations, 0.5),
        duration_p99=_percentile(durations, 0.99),
        algbw=size / busy if busy > 0 else None,
        busbw=sum(column.scaled) / moving if moving > 0 else None,
    )


def _percentile(ordered: list[float], share: float) -> float:
    """The nearest rank: a value that was measured, and at 99 % of fewer than 100 values the largest."""
    return ordered[math.ceil(share * len(ordered)) - 1]
