from __future__ import annotations

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from otel_netmon import threads
from otel_netmon.monitors import Monitor, Scheduler
from otel_netmon.monitors.scheduler import Timetable

from .helpers import held_by_another_thread, wait_for_child


class Counting(Monitor):
    """Counts its samples; may hang in them."""

    name = "counting"

    def __init__(self, *, hang: threading.Event | None = None) -> None:
        super().__init__()
        self.count = 0
        self.sampled = threading.Event()
        self.hang = hang
        self.exits = False

    def sample(self) -> tuple[()]:
        self.count += 1
        if self.exits:
            sys.exit(3)
        self.sampled.set()
        if self.hang is not None:
            self.hang.wait(60)
        return ()


class Probing(Counting):
    name = "probing"
    probes = True


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


def test_turns_do_not_drift_however_late_each_one_is() -> None:
    draw = random.Random(1)
    turns = Timetable(10.0, 1000.0, at_once=False)
    first = turns.due
    now = first
    late: list[float] = []
    while now < 11_000:
        late.append(now - (first + 10 * len(late)))
        turns.advance(now)
        assert turns.due > now
        now = turns.due + draw.uniform(0, 0.5)
    assert len(late) in (1000, 1001)
    assert all(0 <= one < 0.5 for one in late)


def test_turns_that_were_missed_are_left_out() -> None:
    turns = Timetable(10.0, 0.0, at_once=False)
    first = turns.due
    turns.advance(first + 47)  # the machine slept
    assert turns.due == first + 50


class Hurried(Counting):
    name = "hurried"
    longest_interval = 0.01


def test_a_monitor_may_want_to_be_sampled_more_often_than_the_others_but_not_less() -> None:
    usual, hurried = Counting(), Hurried()
    scheduler = Scheduler([usual, hurried], 3600)
    scheduler.start()
    assert until(lambda: hurried.count >= 5)
    assert scheduler.stop(30) and usual.count == 1
    rare = Hurried()
    rare.longest_interval = 3600
    often = Scheduler([rare], 0.01)
    often.start()
    assert until(lambda: rare.count >= 5)
    assert often.stop(30)


def test_what_is_sampled_at_once_goes_on_with_its_first_turn() -> None:
    turns = Timetable(10.0, 0.0, at_once=True)
    assert turns.due == 0
    turns.advance(0)
    first = turns.due
    assert 0 < first <= 10
    turns.advance(first)
    assert turns.due == first + 10


def test_only_what_sends_something_waits_for_its_first_turn() -> None:
    quiet, probing = Counting(), Probing()
    scheduler = Scheduler([quiet, probing], 3600)
    scheduler.start()
    assert quiet.sampled.wait(30)
    assert scheduler.stop(30)
    assert (quiet.count, probing.count) == (1, 0)


def test_hosts_started_together_do_not_sample_together() -> None:
    dues = [Timetable(10.0, 0.0, at_once=False).due for _ in range(1000)]
    assert all(0 <= due < 10 for due in dues)
    assert min(sum(second <= due < second + 1 for due in dues) for second in range(10)) > 40


def test_the_users_random_numbers_are_left_alone() -> None:
    random.seed(7)
    state = random.getstate()
    Timetable(10.0, 0.0, at_once=False)
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


def test_turns_missed_in_a_hang_are_not_made_up_for(hang: threading.Event) -> None:
    stuck = Counting(hang=hang)
    scheduler = Scheduler([stuck], 3600)
    for _ in range(5):
        assert not scheduler.sample_now(0)
    hang.set()
    assert scheduler.stop(30)
    assert stuck.count == 1


def test_a_monitor_that_exits_is_sampled_again_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """As one of another package may, that calls a program's main()."""
    exiting = Counting()
    exiting.exits = True
    scheduler = Scheduler([exiting], 0.01)
    scheduler.start()
    assert until(lambda: exiting.count >= 3)
    assert scheduler.sample_now(30) and scheduler.stop(30)
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == [
        "monitor counting: SystemExit: 3"
    ]


def test_without_a_thread_it_says_so_and_raises_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def start(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as exhausted:
        exhausted.setattr(threads, "start", start)
        scheduler = Scheduler([Counting()], 3600)
        scheduler.start()
        assert scheduler.sample_now(0) and scheduler.stop(0)
    assert "monitor counting gets no thread (can't start new thread): it is not sampled" in caplog.text


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
