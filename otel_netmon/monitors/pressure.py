"""Pressure that looks like a slow network: on the host, and on this process by its cgroup."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar, Final

from opentelemetry.metrics import Observation

from otel_netmon import config, semconv
from otel_netmon.monitors import files, procfs, protocols
from otel_netmon.monitors.base import Monitor, Series
from otel_netmon.monitors.protocols import Throttling

_RESOURCES: Final = ("cpu", "memory", "io")
_MAX_TASKS: Final = 4096
_MAX_DEPTH: Final = 64

Stalls = dict[tuple[str, str], float]
"""Seconds stalled, by resource and ``some`` or ``full``."""


class PressureMonitor(Monitor):
    """Watches the host's pressure stall information and its CPUs' run queues; sends nothing.

    Absent where the kernel was built or started without them. A sample takes some 0.1 ms of CPU.
    """

    name: ClassVar[str] = "pressure"

    def __init__(self, *, proc_root: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock=clock)
        self._proc = str(config.current().proc_root if proc_root is None else proc_root)
        self._stalls: Stalls = {}
        self._run_queue: float | None = None

    def sample(self) -> None:
        """One reading. What cannot be read is absent."""
        stalls = _stalls(lambda resource: f"{self._proc}/pressure/{resource}")
        run_queue = protocols.parse_schedstat(files.try_read(f"{self._proc}/schedstat") or b"")
        with self._lock:
            self._stalls, self._run_queue = stalls, run_queue

    def series(self) -> tuple[Series, ...]:
        """Time stalled per resource, time in run queues."""
        return (
            (semconv.PRESSURE_STALL, lambda: _observed(self._stalls)),
            (semconv.HOST_RUN_QUEUE, lambda: _only(self._run_queue)),
        )


class ProcessPressureMonitor(Monitor):
    """Watches what holds this process up: waiting for a CPU, its cgroup's pressure, and CPU quotas on it.

    Of the cgroup and those above it that has the quota which stopped it longest is reported. In a container with a
    cgroup namespace of its own those above are out of sight. A sample takes some 0.1 ms of CPU, and 10 µs more per
    thread of the process.
    """

    name: ClassVar[str] = "process"

    def __init__(
        self,
        *,
        proc_root: Path | None = None,
        sys_root: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(clock=clock)
        # one's own entries are never those of a host's proc mounted elsewhere: there the pid is another
        self._self = "/proc/self" if proc_root is None else str(proc_root / "self")
        self._mount = str((config.current().sys_root if sys_root is None else sys_root) / "fs" / "cgroup")
        self._waited: dict[str, float] = {}
        self._run_queue: float | None = None
        self._stalls: Stalls = {}
        self._throttling: Throttling | None = None
        self._limit: float | None = None

    def sample(self) -> None:
        """One reading. What cannot be read is absent."""
        with self._turn() as mine:
            if mine:
                self._sample()

    def _sample(self) -> None:
        waited = self._tasks()
        paths = protocols.parse_cgroups(files.try_read(f"{self._self}/cgroup") or b"")
        folders = self._folders(paths)
        found = [protocols.parse_cpu_stat(files.try_read(f"{folder}/cpu.stat") or b"") for folder in folders]
        limits = [limit for folder in folders if (limit := _limit(folder)) is not None]
        own = f"{self._mount}{paths['']}" if "" in paths else None
        stalls = {} if own is None else _stalls(lambda resource: f"{own}/{resource}.pressure")
        with self._lock:
            if waited:
                # threads end: what they waited is kept
                more = sum(max(0.0, now - self._waited.get(task, 0.0)) for task, now in waited.items())
                self._run_queue = (self._run_queue or 0.0) + more
            self._waited = waited
            self._stalls = stalls
            self._throttling = max((one for one in found if one), key=lambda one: one.time, default=None)
            self._limit = min(limits, default=None)

    def _tasks(self) -> dict[str, float]:
        try:
            tasks = os.listdir(f"{self._self}/task")[:_MAX_TASKS]
        except OSError:
            return {}
        read = {task: files.try_read(f"{self._self}/task/{task}/schedstat") for task in tasks}
        waits = {task: protocols.parse_task_schedstat(data) for task, data in read.items() if data}
        return {task: wait for task, wait in waits.items() if wait is not None}

    def _folders(self, paths: dict[str, str]) -> list[str]:
        """The process's cgroup for CPU and those above it, from the inside out."""
        mounts = [(self._mount, paths[""])] if "" in paths else []
        if "cpu" in paths:  # version 1: the controller has a mount of its own, alone or with cpuacct
            mounts = [(f"{self._mount}/{name}", paths["cpu"]) for name in ("cpu", "cpu,cpuacct", "cpuacct,cpu")]
        found: list[str] = []
        for mount, path in mounts:
            parts = [part for part in path.split("/") if part and part != ".."][:_MAX_DEPTH]
            levels = ["/".join(("", *parts[:depth])) for depth in range(len(parts), -1, -1)]
            found += [mount + level for level in levels if os.path.isdir(mount + level)]
            if found:
                break
        return found

    def series(self) -> tuple[Series, ...]:
        """``otel_netmon.process.*`` and ``otel_netmon.cgroup.*``."""

        def quota(read: Callable[[Throttling], float]) -> Iterable[Observation]:
            return _only(None if self._throttling is None else read(self._throttling))

        return (
            (semconv.PROCESS_RUN_QUEUE, lambda: _only(self._run_queue)),
            (semconv.CGROUP_STALL, lambda: _observed(self._stalls)),
            (semconv.CGROUP_THROTTLED, lambda: quota(lambda one: one.time)),
            (semconv.CGROUP_PERIODS, lambda: quota(lambda one: one.periods)),
            (semconv.CGROUP_THROTTLED_PERIODS, lambda: quota(lambda one: one.throttled)),
            (semconv.CGROUP_LIMIT, lambda: _only(self._limit)),
        )

    def _after_fork_in_child(self) -> None:
        super()._after_fork_in_child()
        self._waited, self._run_queue = {}, None


def _limit(folder: str) -> float | None:
    data = files.try_read(f"{folder}/cpu.max")
    if data is not None:
        return protocols.parse_cpu_max(data)
    period = procfs.parse_int(files.try_read(f"{folder}/cpu.cfs_period_us"))
    return protocols.quota(procfs.parse_int(files.try_read(f"{folder}/cpu.cfs_quota_us")), period)


def _stalls(path: Callable[[str], str]) -> Stalls:
    return {
        (resource, kind): stalled
        for resource in _RESOURCES
        for kind, stalled in protocols.parse_pressure(files.try_read(path(resource)) or b"").items()
    }


def _only(value: float | None) -> Iterable[Observation]:
    return () if value is None else (Observation(value),)


def _observed(stalls: Stalls) -> Iterable[Observation]:
    return [Observation(stalled, _attributes(*key)) for key, stalled in stalls.items()]


@functools.cache
def _attributes(resource: str, kind: str) -> dict[str, str]:
    return {semconv.PRESSURE_RESOURCE: resource, semconv.PRESSURE_KIND: kind}
