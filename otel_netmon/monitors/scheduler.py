"""Samples monitors at their intervals, each in a thread of its own: one that hangs delays no other."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Final

from otel_netmon import forks, threads
from otel_netmon.monitors.base import Monitor

_logger = logging.getLogger(__name__)

# The system's generator: drawing from the shared one would change the user's random numbers.
_random: Final = random.SystemRandom().random


class Timetable:
    """When a monitor is due: at ``base + k * interval``, so that a late sample does not shift the later ones.

    The base is a random part of the interval ahead, so that hosts started together do not sample together.
    ``at_once`` has one more sample now, which gives a short job data and rates a first reading.
    """

    def __init__(self, interval: float, now: float, *, at_once: bool) -> None:
        self.interval = interval
        self._base = now + _random() * interval
        self.due = now if at_once else self._base

    def advance(self, now: float) -> None:
        """To the first point of the grid after ``now``; those missed are left out."""
        k = max(0, math.floor((now - self._base) / self.interval))
        while (due := self._base + k * self.interval) <= now:
            k += 1
        self.due = due


class _Worker:
    """The thread of one monitor. Its methods are called with ``lock``, the scheduler's, held."""

    def __init__(self, monitor: Monitor, interval: float, lock: threading.RLock) -> None:
        self._monitor = monitor
        self._interval = interval
        self._lock = lock
        self._wake = threads.Event()
        self.over = False
        """True when it will never sample again; one that was asked to end and still samples is not over."""
        self.idle = threads.Event()
        """Set while no sample is under way or asked for."""
        self.idle.set()
        self.begin()
        self._thread = threads.start(self._run, f"otel-netmon-{monitor.name}")

    def begin(self) -> None:
        """Sample at the interval from now on; one that was asked to end goes on."""
        self._ended = False
        self._timetable = Timetable(self._every(), time.monotonic(), at_once=not self._monitor.probes)
        self._wake.set()

    def _every(self) -> float:
        return min(self._interval, self._monitor.longest_interval)

    def request(self) -> None:
        """One sample now, unless one is under way."""
        self.idle.clear()
        self._wake.set()

    def end(self) -> None:
        """No more samples than the one under way or asked for."""
        self._ended = True
        self._wake.set()

    def join(self, timeout: float) -> bool:
        """Wait for its end, without the lock; whether it has ended."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while self._next():
            try:
                self._monitor.run_once()
            except BaseException as error:  # noqa: BLE001  # SystemExit, CancelledError: this thread goes on
                self._monitor._log_once(error)
            with self._lock:
                self._timetable.interval = self._every()
                self._timetable.advance(time.monotonic())
                self.idle.set()

    def _next(self) -> bool:
        """Wait until a sample is due or asked for; False when there will be none."""
        while True:
            with self._lock:
                self._wake.clear()
                if not self.idle.is_set():
                    return True
                if self._ended:
                    self.over = True
                    return False
                left = self._timetable.due - time.monotonic()
                if left <= 0:
                    self.idle.clear()
                    return True
            self._wake.wait(left)


class Scheduler:
    """Calls ``run_once()`` of each monitor every ``interval`` seconds, or its ``longest_interval`` if that is
    less, each in a thread of its own, which lives until ``stop``.

    A monitor still at its last sample misses its turn. ``start`` and ``stop`` may be repeated; a forked child runs
    nothing until it calls ``start`` itself. All threads are daemons.
    """

    def __init__(self, monitors: Iterable[Monitor], interval: float = 10.0) -> None:
        if not 0 < interval < math.inf:
            raise ValueError(f"interval is {interval!r}; it must be above 0")
        self._monitors = tuple(monitors)
        self._interval = interval
        self.after_fork_in_child()
        forks.register(self)

    def after_fork_in_child(self) -> None:
        """The threads are the parent's."""
        self._lock = threads.RLock()
        self._running = False
        self._workers: dict[Monitor, _Worker] = {}

    @property
    def running(self) -> bool:
        """True between ``start`` and ``stop``."""
        return self._running

    def start(self) -> None:
        """Begin; a second call does nothing. Costs the start of a thread for each monitor."""
        with self._lock:
            if not self._running:
                self._running = True
                for worker in self._working(self._monitors):
                    worker.begin()

    def stop(self, timeout: float = 5.0) -> bool:
        """End, waiting at most ``timeout`` seconds. True when every thread has ended; a hung sample has not."""
        deadline = time.monotonic() + timeout
        with self._lock:
            self._running = False
            workers = list(self._workers.values())
            for worker in workers:
                worker.end()
        ended = [worker.join(max(0.0, deadline - time.monotonic())) for worker in workers]
        with self._lock:  # what hangs is kept, so that it is not started a second time
            self._workers = {m: w for m, w in self._workers.items() if not w.over}
        return all(ended)

    def sample_now(self, timeout: float = 1.0) -> bool:
        """One sample now of each monitor that sends nothing, waiting at most ``timeout`` seconds for them.

        For the end of a job, whose last seconds would otherwise be missing. True when all came to an end.
        """
        deadline = time.monotonic() + timeout
        with self._lock:
            workers = self._working([monitor for monitor in self._monitors if not monitor.probes])
            for worker in workers:
                worker.request()
                if not self._running:  # nobody else would end it
                    worker.end()
        return all(worker.idle.wait(max(0.0, deadline - time.monotonic())) for worker in workers)

    def _working(self, monitors: Sequence[Monitor]) -> list[_Worker]:
        """The workers of these monitors, new ones where there are none; lock held."""
        for monitor in monitors:
            if monitor not in self._workers or self._workers[monitor].over:
                try:
                    self._workers[monitor] = _Worker(monitor, self._interval, self._lock)
                except RuntimeError as error:  # the interpreter is ending, or the system has no thread left
                    _logger.warning("monitor %s gets no thread (%s): it is not sampled", monitor.name, error)
        return [self._workers[monitor] for monitor in monitors if monitor in self._workers]
