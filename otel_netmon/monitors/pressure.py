"""Pressure that looks like a slow network: on the host, and on this process by its cgroup."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, Final

from otel_netmon import config, semconv
from otel_netmon.monitors import files, procfs, protocols
from otel_netmon.monitors.base import Monitor
from otel_netmon.monitors.cgroups import Cgroup, Cgroups
from otel_netmon.monitors.points import Point, Row, attributes, points_of
from otel_netmon.monitors.protocols import Throttling
from otel_netmon.monitors.sums import MemberDeltas, MemberTotals

_RESOURCES: Final = ("cpu", "memory", "io")
_MAX_TASKS: Final = 4096
_QUOTA_ROWS: Final[tuple[Row, ...]] = (
    (semconv.CGROUP_THROTTLED, "time"),
    (semconv.CGROUP_PERIODS, "periods"),
    (semconv.CGROUP_THROTTLED_PERIODS, "throttled"),
)


class PressureMonitor(Monitor):
    """Watches the host's pressure stall information and its CPUs' run queues; sends nothing.

    Absent where the kernel was built or started without them. A sample takes some 0.1 ms of CPU.
    """

    name: ClassVar[str] = "pressure"
    metrics: ClassVar[tuple[semconv.Metric, ...]] = (semconv.PRESSURE_STALL, semconv.HOST_RUN_QUEUE)

    def __init__(self, *, proc_root: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock=clock)
        self._proc = str(config.current().proc_root if proc_root is None else proc_root)
        self._run_queue = MemberTotals()

    def sample(self) -> Iterator[Point]:
        """One reading. What cannot be read is absent."""
        yield from _stalled(semconv.PRESSURE_STALL, _stalls(lambda one: f"{self._proc}/pressure/{one}"))
        cpus = protocols.parse_schedstat(files.try_read(f"{self._proc}/schedstat") or b"")
        if cpus:
            yield Point(semconv.HOST_RUN_QUEUE, self._run_queue.add("run queue", cpus))


class ProcessPressureMonitor(Monitor):
    """Watches what holds this process up: waiting for a CPU, its cgroup's pressure, and CPU quotas on it.

    Of the cgroup and those above it that has the quota which stopped it longest is reported. In a container with a
    cgroup namespace of its own those above are out of sight. A sample takes some 0.1 ms of CPU, and 10 µs more per
    thread of the process.
    """

    name: ClassVar[str] = "process"
    metrics: ClassVar[tuple[semconv.Metric, ...]] = (
        semconv.PROCESS_RUN_QUEUE,
        semconv.CGROUP_STALL,
        semconv.CGROUP_LIMIT,
        *(row[0] for row in _QUOTA_ROWS),
    )

    def __init__(
        self,
        *,
        proc_root: Path | None = None,
        sys_root: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(clock=clock)
        # one's own entries are never those of a host's proc or sys mounted elsewhere: paths mean others there
        self._self = "/proc/self" if proc_root is None else str(proc_root / "self")
        mount = (Path("/sys") if sys_root is None else sys_root) / "fs" / "cgroup"
        self._cgroups = Cgroups(self._self, str(mount))
        self._begin()

    def _begin(self) -> None:
        self._tasks = MemberDeltas()
        self._listed: frozenset[str] = frozenset()
        self._whole = True
        self._run_queue: float | None = None
        self._stalled = MemberTotals()
        self._quotas = MemberDeltas()
        self._stopped = Throttling(0, 0, 0.0)
        """Over whichever cgroup stopped it longest at each time."""

    def sample(self) -> Iterator[Point]:
        """One reading. What cannot be read is absent."""
        if tasks := files.entries(f"{self._self}/task")[:_MAX_TASKS]:
            read = {task: files.try_read(f"{self._self}/task/{task}/schedstat") or b"" for task in tasks}
            waited = {task: protocols.parse_task_schedstat(data) for task, data in read.items()}
            self._count_tasks(tasks, {task: wait for task, wait in waited.items() if wait is not None})
        if self._run_queue is not None:
            yield Point(semconv.PROCESS_RUN_QUEUE, self._run_queue)
        cgroups, own = self._cgroups.look()
        if own is not None:
            stalls = _stalls(lambda resource: f"{own.folder}/{resource}.pressure")
            totals = {key: self._stalled.add(key, {own: stalled}) for key, stalled in stalls.items()}
            yield from _stalled(semconv.CGROUP_STALL, totals)
        limits = [limit for one in cgroups if (limit := _limit(one.folder)) is not None]
        if limits:
            yield Point(semconv.CGROUP_LIMIT, min(limits))
        stats = {one: data for one in cgroups if (data := files.try_read(f"{one.folder}/cpu.stat")) is not None}
        throttling = self._throttled({one: protocols.parse_cpu_stat(data) for one, data in stats.items()})
        if throttling is not None:
            yield from points_of(_QUOTA_ROWS, throttling._asdict().get)

    def _count_tasks(self, tasks: list[str], waited: dict[str, float]) -> None:
        """Threads end: what they waited is kept. One that was not there before began at 0 since."""
        before, whole = self._whole, len(tasks) < _MAX_TASKS
        if whole:
            self._tasks.forget(self._listed.difference(tasks))
        self._listed, self._whole = frozenset(tasks), whole
        if waited:
            more = self._tasks.moved(waited, born=before and whole)
            self._run_queue = (self._run_queue or 0.0) + sum(more.values())

    def _throttled(self, quotas: dict[Cgroup, Throttling | None]) -> Throttling | None:
        # one without a quota is at 0: that which it gets later counts from there
        numbers = {one: quota or Throttling(0, 0, 0.0) for one, quota in quotas.items()}
        counts = {(one, place): number for one, each in numbers.items() for place, number in enumerate(each)}
        moved = self._quotas.moved(counts)
        worst = max((one for one in quotas if quotas[one]), key=lambda one: numbers[one].time, default=None)
        if worst is None:
            return None
        self._stopped = Throttling._make(now + moved[worst, place] for place, now in enumerate(self._stopped))
        return self._stopped

    def after_fork_in_child(self) -> None:
        super().after_fork_in_child()
        self._begin()


def _limit(folder: str) -> float | None:
    data = files.try_read(f"{folder}/cpu.max")
    if data is not None:
        return protocols.parse_cpu_max(data)
    period = procfs.parse_int(files.try_read(f"{folder}/cpu.cfs_period_us"))
    return protocols.quota(procfs.parse_int(files.try_read(f"{folder}/cpu.cfs_quota_us")), period)


def _stalls(path: Callable[[str], str]) -> dict[tuple[str, str], float]:
    """Seconds stalled, by resource and ``some`` or ``full``."""
    return {
        (resource, kind): stalled
        for resource in _RESOURCES
        for kind, stalled in protocols.parse_pressure(files.try_read(path(resource)) or b"").items()
    }


def _stalled(metric: semconv.Metric, stalls: dict[tuple[str, str], float]) -> Iterator[Point]:
    for (resource, kind), stalled in stalls.items():
        about = (semconv.PRESSURE_RESOURCE, resource), (semconv.PRESSURE_KIND, kind)
        yield Point(metric, stalled, attributes(*about))
