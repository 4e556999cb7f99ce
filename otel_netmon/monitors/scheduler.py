"""One thread that samples monitors at their intervals; a monitor that hangs delays no other."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from otel_netmon import forks, threads
from otel_netmon.monitors.base import Monitor

_logger = logging.getLogger(__name__)

# The system's generator: drawing from the shared one would change the user's random numbers.
_random: Final = random.SystemRandom().random


class _Schedule:
    """One monitor's timetable, on the grid ``base + k * interval``: late ticks do not shift later ones."""

    def __init__(self, monitor: Monitor, interval: float, now: float, offset: float) -> None:
        self.monitor = monitor
        self._interval = interval
        self._base = now + offset
        # What sends nothing is sampled at once, so that a short job has data and rates a first reading.
        self.due = self._base if monitor.probes else now

    def advance(self, now: float) -> None:
        """To the first point of the grid after ``now``; those missed are left out."""
        k = max(0, math.floor((now - self._base) / self._interval))
        while (due := self._base + k * self._interval) <= now:
            k += 1
        self.due = due


class _Worker:
    """A thread that samples one monitor whenever it is asked to; starting one each time would cost more.

    ``request`` and ``end`` are called with the scheduler's lock held.
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._ended = False
        self._wake = threads.Event()
        self.idle = threads.Event()
        self.idle.set()
        self.thread = threads.start(self._run, f"otel-netmon-{monitor.name}")

    @property
    def over(self) -> bool:
        """True when it will never sample again; one that was asked to end and still samples is not over."""
        return (self._ended and self.idle.is_set()) or not self.thread.is_alive()

    def request(self) -> None:
        """One sample, unless one is under way."""
        if self.idle.is_set():
            self.idle.clear()
            self._wake.set()

    def end(self) -> None:
        """No more after the one under way."""
        self._ended = True
        self._wake.set()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            if not self.idle.is_set():
                self._monitor.run_once()
                self.idle.set()
            if self._ended:
                return


class Scheduler:
    """Calls ``run_once()`` of each monitor every ``interval`` seconds, each in a thread of its own, which lives
    until ``stop``.

    A monitor still at its last sample misses the tick. Ticks start at a random part of the interval per monitor,
    so that many hosts started together do not tick together. ``start`` and ``stop`` may be repeated; a forked
    child runs nothing until it calls ``start`` itself. All threads are daemons.
    """

    def __init__(
        self,
        monitors: Iterable[Monitor],
        interval: float = 10.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = _random,
    ) -> None:
        if not 0 < interval < math.inf:
            raise ValueError(f"interval is {interval!r}; it must be above 0")
        self._monitors = tuple(monitors)
        self._interval = interval
        self._clock = clock
        self._jitter = jitter
        self.after_fork_in_child()
        forks.register(self)

    def after_fork_in_child(self) -> None:
        """The threads are the parent's."""
        self._lock = threads.RLock()
        self._stop: threads.Event | None = None
        self._thread: threads.Running | None = None
        self._workers: dict[Monitor, _Worker] = {}

    @property
    def running(self) -> bool:
        """True between ``start`` and ``stop``."""
        with self._lock:
            return self._stop is not None

    def start(self) -> None:
        """Begin; a second call does nothing. Costs the start of a thread."""
        with self._lock:
            if self._stop is not None:
                return
            stop = threads.Event()
            jobs = self._timetable()
            self._stop, self._thread = stop, threads.start(self._run, "otel-netmon-scheduler", jobs, stop)

    def stop(self, timeout: float = 5.0) -> bool:
        """End, waiting at most ``timeout`` seconds. True when every thread has ended; a hung sample has not."""
        deadline = time.monotonic() + timeout
        with self._lock:
            stop, thread = self._stop, self._thread
            self._stop = self._thread = None
        if stop is not None:
            stop.set()
        ended = thread is None or _join(thread, deadline)
        with self._lock:  # only now: until the scheduler's thread ended it may have started another
            workers = list(self._workers.values())
            for worker in workers:
                worker.end()
        ended = _join_all([worker.thread for worker in workers], deadline) and ended
        with self._lock:  # what hangs is kept, so that it is not started a second time
            self._workers = {m: w for m, w in self._workers.items() if not w.over}
        return ended

    def sample_now(self, timeout: float = 1.0) -> bool:
        """One sample now of each monitor that sends nothing, waiting at most ``timeout`` seconds for them.

        For the end of a job, whose last seconds would otherwise be missing. True when all came to an end.
        """
        deadline = time.monotonic() + timeout
        quiet = [monitor for monitor in self._monitors if not monitor.probes]
        for monitor in quiet:
            self._launch(monitor)
        with self._lock:
            idle = [self._workers[monitor].idle for monitor in quiet if monitor in self._workers]
            if self._stop is None:  # not running: nobody else would end them
                for worker in self._workers.values():
                    worker.end()
        return all(event.wait(max(0.0, deadline - time.monotonic())) for event in idle)

    def _timetable(self) -> list[_Schedule]:
        now = self._clock()
        return [_Schedule(m, self._interval, now, self._jitter() * self._interval) for m in self._monitors]

    def _run(self, jobs: list[_Schedule], stop: threads.Event) -> None:
        while not stop.is_set():
            due = self._tick(jobs)
            if due is None:
                return
            stop.wait(max(0.0, due - self._clock()))

    def _tick(self, jobs: list[_Schedule]) -> float | None:
        """Start the samples that are due; the time of the next one."""
        now = self._clock()
        for job in jobs:
            if job.due <= now:
                job.advance(now)
                self._launch(job.monitor)
        return min((job.due for job in jobs), default=None)

    def _launch(self, monitor: Monitor) -> None:
        with self._lock:
            worker = self._workers.get(monitor)
            if worker is None or worker.over:
                try:
                    worker = self._workers[monitor] = _Worker(monitor)
                except RuntimeError as error:  # the interpreter is ending, or the system has no thread left
                    _logger.debug("no thread for monitor %s: %s", monitor.name, error)
                    return
            worker.request()


def _join(thread: threads.Running, deadline: float) -> bool:
    if thread is not threading.current_thread():
        thread.join(max(0.0, deadline - time.monotonic()))
    return not thread.is_alive()


def _join_all(running: list[threads.Running], deadline: float) -> bool:
    ended = [_join(thread, deadline) for thread in running]
    return all(ended)
