from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from otel_netmon.monitors import Monitor, Scheduler

from .helpers import Clock, held_by_another_thread, wait_for_child


class Counting(Monitor):
    """Counts its samples; may hang in them."""

    name = "counting"

    def __init__(self, *, hang: threading.Event | None = None) -> None:
        super().__init__()
        self.count = 0
        self.sampled = threading.Event()
        self.hang = hang

    def sample(self) -> tuple[()]:
        self.count += 1
        self.sampled.set()
        if self.hang is not None:
            self.hang.wait(60)
        return ()


class Probing(Counting):
    name = "probing"
    probes = True


class Ticks(Scheduler):
    """A scheduler whose thread is the test: notes when samples would start."""

    def __init__(self, monitor: Monitor, interval: float, clock: Clock, jitter: float) -> None:
        super().__init__([monitor], interval, clock=clock, jitter=lambda: jitter)
        self.clock = clock
        self.started: list[float] = []
        self.jobs = self._timetable()

    def _launch(self, monitor: Monitor) -> None:
        self.started.append(self.clock.now)

    def run_until(self, end: float, late: Callable[[], float] = lambda: 0.0) -> None:
        while self.clock.now < end:
            due = self._tick(self.jobs)
            assert due is not None and due > self.clock.now
            self.clock.now = due + late()


@pytest.fixture
def hang() -> Iterator[threading.Event]:
    release = threading.Event()
    yield release
    release.set()


def until(condition: Callable[[], bool], timeout: float = 30.0) -> bool:
    deadline = time.monotonic() + timeout
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)
    return condition()


def ours() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("otel-netmon")]


def test_ticks_do_not_drift_however_late_each_one_is() -> None:
    clock = Clock(1000.0)
    draw = random.Random(1)
    ticks = Ticks(Probing(), 10.0, clock, jitter=0.3)
    ticks.run_until(11_000, late=lambda: draw.uniform(0, 0.5))
    assert len(ticks.started) in (1000, 1001)
    for number, at in enumerate(ticks.started):
        assert 0 <= at - (1003 + 10 * number) < 0.5


def test_ticks_that_were_missed_are_left_out() -> None:
    clock = Clock(0.0)
    ticks = Ticks(Probing(), 10.0, clock, jitter=0.0)
    ticks._tick(ticks.jobs)
    clock.now = 47.0  # the machine slept
    assert ticks._tick(ticks.jobs) == 50.0
    assert ticks.started == [0.0, 47.0]


def test_only_what_sends_something_waits_for_its_first_turn() -> None:
    for monitor, first in ((Counting(), [0.0, 7.0, 17.0]), (Probing(), [7.0, 17.0])):
        ticks = Ticks(monitor, 10.0, Clock(0.0), jitter=0.7)
        ticks.run_until(20)
        assert ticks.started == first


def test_hosts_started_together_do_not_tick_together() -> None:
    schedulers = [Scheduler([Probing()], 10.0, clock=Clock(0.0)) for _ in range(1000)]
    dues = [scheduler._timetable()[0].due for scheduler in schedulers]
    assert all(0 <= due < 10 for due in dues)
    assert min(sum(second <= due < second + 1 for due in dues) for second in range(10)) > 40


def test_the_users_random_numbers_are_left_alone() -> None:
    random.seed(7)
    state = random.getstate()
    Scheduler([Probing()], 10.0)._timetable()
    assert random.getstate() == state


def test_a_monitor_that_hangs_delays_no_other_and_is_not_started_twice(hang: threading.Event) -> None:
    stuck, free = Counting(hang=hang), Counting()
    scheduler = Scheduler([stuck, free], 0.01)
    scheduler.start()
    try:
        assert until(lambda: free.count >= 5)
        assert stuck.count == 1
        assert not scheduler.stop(timeout=0.05)  # it says that something has not ended, and does not wait for it
        scheduler.start()  # also not from anew
        before = free.count
        assert until(lambda: free.count >= before + 3)
        assert stuck.count == 1
        hang.set()
        assert until(lambda: stuck.count >= 2)
    finally:
        hang.set()
        assert scheduler.stop(timeout=30)


def test_ticks_missed_in_a_hang_are_not_made_up_for(hang: threading.Event) -> None:
    stuck = Counting(hang=hang)
    scheduler = Scheduler([stuck], 3600)
    for _ in range(5):
        scheduler._launch(stuck)
    hang.set()
    assert scheduler.stop(30)
    assert stuck.count == 1


def test_a_hundred_starts_and_stops_leave_no_thread() -> None:
    monitors = [Counting(), Probing()]
    scheduler = Scheduler(monitors, 0.001)
    for _ in range(100):
        scheduler.start()
        scheduler.start()
        assert monitors[0].sampled.wait(30)
        monitors[0].sampled.clear()
        assert scheduler.running
        assert scheduler.stop(timeout=30)
        assert not scheduler.running
    assert ours() == []
    assert scheduler.stop()  # once more does nothing


def test_sample_now_waits_for_one_more_sample_but_not_for_ever(hang: threading.Event) -> None:
    free, probing = Counting(), Probing()
    assert Scheduler([free, probing], 3600).sample_now(30)
    assert (free.count, probing.count) == (1, 0)
    assert not Scheduler([Counting(hang=hang)], 3600).sample_now(0.05)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 and later
def test_a_forked_child_runs_nothing_until_it_starts_it() -> None:
    monitor = Counting()
    scheduler = Scheduler([monitor], 0.005)
    scheduler.start()
    try:
        assert monitor.sampled.wait(30)
        with held_by_another_thread(scheduler._lock):
            child = os.fork()
            if child == 0:  # no assertion may leave this branch: pytest would run twice
                try:
                    before = monitor.count
                    time.sleep(0.05)
                    quiet = monitor.count == before and not scheduler.running and not ours()
                    scheduler.start()
                    runs = until(lambda: monitor.count > before)
                    os._exit(0 if quiet and runs and scheduler.stop(30) else 3)
                except BaseException:
                    os._exit(4)
            code = wait_for_child(child)
        assert code == 0
        before = monitor.count
        assert until(lambda: monitor.count > before)  # the parent's goes on
    finally:
        assert scheduler.stop(30)


def test_an_interval_that_makes_no_sense_is_refused() -> None:
    for interval in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="interval"):
            Scheduler([], interval)
