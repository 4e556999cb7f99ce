"""TCP connect time to the targets the user names."""

from __future__ import annotations

import functools
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import ClassVar, Final

from otel_netmon import config, semconv, threads
from otel_netmon.monitors import tcp_connect
from otel_netmon.monitors.base import HISTORY, DirectMonitor
from otel_netmon.monitors.nics import names_or_globs
from otel_netmon.monitors.points import Point, Row, attributes, points_of
from otel_netmon.monitors.tcp_connect import Attempts
from otel_netmon.monitors.values import LatencyStats
from otel_netmon.values import parse_target

MAX_THREADS: Final = 32
RESOLVE_ALLOWANCE: Final = 2.0
"""Seconds a round may take beyond its attempts, for resolving names, which has no timeout of its own."""

_ROWS: Final[tuple[Row, ...]] = (
    (semconv.LATENCY_MEAN, "mean"),
    (semconv.LATENCY_MIN, "min"),
    (semconv.LATENCY_MAX, "max"),
    (semconv.LATENCY_JITTER, "jitter"),
    (semconv.LATENCY_LOSS, "loss"),
)


class _Probe:
    """One target's attempts under way. Its fields are read and written with the monitor's lock held, but for what
    is appended to ``found``, which is atomic."""

    def __init__(self, target: str, deadline: float, *, begun: bool = False) -> None:
        self.target = target
        self.deadline = deadline
        self.begun = begun
        self.recorded = False
        self.found = Attempts()
        self.result: LatencyStats | None = None
        self.finished = threads.Event()


class NetworkLatencyMonitor(DirectMonitor):
    """Measures TCP connect time to ``target_hosts``, and to nothing else.

    ``target_hosts``: ``host:port`` or ``[v6]:port``; ``None`` is what the configuration says, by default none.
    ``attempts`` per target are made one after another, each with ``timeout`` seconds; targets go in parallel,
    in at most 32 threads. A name that does not resolve or a port that refuses is a result. Raises ValueError
    for a target that cannot be understood.

    A target has one round under way at a time: callers that come meanwhile share its result. The threads are
    daemons, so a resolver that never answers holds up neither a result nor the end of the process.
    """

    name: ClassVar[str] = "latency"
    metrics: ClassVar[tuple[semconv.Metric, ...]] = (semconv.LATENCY, *(row[0] for row in _ROWS))
    probes: ClassVar[bool] = True

    def __init__(
        self,
        target_hosts: str | Iterable[str] | None = None,
        *,
        attempts: int | None = None,
        timeout: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(clock=clock)
        settings = config.current()
        targets = settings.latency_targets if target_hosts is None else names_or_globs(target_hosts) or ()
        self._targets = {target: parse_target(target) for target in targets}
        self._attempts = settings.latency_attempts if attempts is None else attempts
        self._timeout = settings.latency_timeout if timeout is None else timeout
        if self._attempts < 1 or not 0 < self._timeout < math.inf:
            raise ValueError(f"attempts ({attempts!r}) and timeout ({timeout!r}) must be above 0")
        turns = math.ceil(len(self._targets) / MAX_THREADS)
        self._budget = turns * self._attempts * self._timeout + RESOLVE_ALLOWANCE
        self._running: dict[str, _Probe] = {}
        self._history = {target: deque[LatencyStats](maxlen=HISTORY) for target in self._targets}
        self._latest: dict[str, LatencyStats] = {}

    @property
    def latency_history(self) -> dict[str, deque[LatencyStats]]:
        """A copy of the last 100 rounds of each target, oldest first."""
        with self._lock:
            return {target: history.copy() for target, history in self._history.items()}

    def measure_latency(self) -> dict[str, LatencyStats]:
        """Make one round of attempts to every target, by target as the user wrote it; never raises OSError.

        Blocks for the slowest target: ``attempts * timeout`` + 2 s at most, once per 32 targets begun.
        """
        probes, queue = self._begin()
        try:
            for _ in range(min(len(queue), MAX_THREADS)):
                threads.start(self._work, "otel-netmon-latency", queue)
        except RuntimeError as error:  # no more threads to be had: the others do the work, or nobody
            self._log_once(error)
        for probe in probes:
            probe.finished.wait(max(0.0, probe.deadline - time.monotonic()))
        with self._lock:
            results = {probe.target: self._result(probe, queue) for probe in probes}
            # of those who share a result the first tells it
            fresh = {probe.target: results[probe.target] for probe in probes if not probe.recorded}
            for probe in probes:
                probe.recorded = True
            self._latest |= fresh
            for target, stats in fresh.items():
                self._history[target].append(stats)
            self._store(
                point
                for stats in self._latest.values()
                for point in points_of(_ROWS, functools.partial(getattr, stats), *_server(stats))
            )
        times = ((stats, one) for stats in fresh.values() for one in stats.times)
        self._record(Point(semconv.LATENCY, one, attributes(*_server(stats))) for stats, one in times)
        return results

    def _begin(self) -> tuple[list[_Probe], deque[_Probe]]:
        deadline = time.monotonic() + self._budget
        probes: list[_Probe] = []
        queue: deque[_Probe] = deque()
        with self._lock:
            for target in self._targets:
                probe = self._running.get(target)
                if probe is None:
                    probe = self._running[target] = _Probe(target, deadline)
                    queue.append(probe)
                elif probe.result is not None:  # given up as late, and its thread is still stuck
                    probe = _Probe(target, 0.0, begun=True)
                probes.append(probe)
        return probes, queue

    def _result(self, probe: _Probe, queue: deque[_Probe]) -> LatencyStats:
        """The result, what there is of it at the deadline, or that there is none; lock held."""
        if probe.result is None and probe.begun:
            late = len(probe.found.times) + len(probe.found.errors) < self._attempts
            probe.result = self._stats(probe, *([tcp_connect.TIMEOUT] if late else []))
        elif probe.result is None:
            none = (tcp_connect.NOT_MEASURED,)
            probe.result = LatencyStats(
                probe.target, *self._targets[probe.target], time.time(), attempts=0, errors=none
            )
            if probe in queue:
                queue.remove(probe)
                self._running.pop(probe.target, None)
        return probe.result

    def _work(self, queue: deque[_Probe]) -> None:
        while True:
            with self._lock:
                if not queue:
                    return
                probe = queue.popleft()
                probe.begun = True
            try:
                tcp_connect.attempt(*self._targets[probe.target], self._attempts, self._timeout, probe.found)
            except Exception as error:  # noqa: BLE001  # whoever waits for this probe must be told
                self._log_once(error)
                probe.found.errors.append(tcp_connect.error_word(error))
            with self._lock:
                if probe.result is None:
                    probe.result = self._stats(probe)
                if self._running.get(probe.target) is probe:
                    del self._running[probe.target]
            probe.finished.set()

    def _stats(self, probe: _Probe, *more: str) -> LatencyStats:
        errors = (*probe.found.errors, *more)
        return LatencyStats.of(probe.target, *self._targets[probe.target], times=probe.found.times, errors=errors)

    def sample(self) -> tuple[Point, ...]:
        """One round."""
        self.measure_latency()
        return self.points()

    def after_fork_in_child(self) -> None:
        super().after_fork_in_child()
        self._running = {}  # their threads stayed in the parent


def _server(stats: LatencyStats) -> tuple[tuple[str, str | int], ...]:
    return ((semconv.SERVER_ADDRESS, stats.host), (semconv.SERVER_PORT, stats.port or 0))
