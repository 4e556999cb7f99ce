"""When rounds are made: by their time, and sooner where they are needed."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from otel_netmon.config import Config
from otel_netmon.emit import background
from otel_netmon.emit.background import Background
from otel_netmon.emit.rounds import Rounds
from tests.unit.emit.a_rank import Rank, job_of


class Counted:
    """In place of ``Rounds``."""

    interval = 60.0
    is_needed = False

    def __init__(self) -> None:
        self.count = 0

    def start_over(self) -> None: ...
    def last(self) -> None: ...

    def next(self) -> None:
        self.count += 1
        self.is_needed = False


def test_a_round_waits_for_its_time_unless_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "_LOOK", 0.02)
    rounds: Any = Counted()
    running = Background(rounds)
    running.start()
    time.sleep(0.3)
    assert rounds.count == 1, "the first comes soon"
    rounds.is_needed = True
    time.sleep(0.3)
    assert rounds.count == 2
    assert running.stop(5)


def rounds_of(rank: Rank, *, native: bool = True, sees_groups: bool = True, **settings: Any) -> Rounds:
    if native:
        source: Any = SimpleNamespace(waiting=0)  # all that is asked here
        rank.ring.source = source
    capture: Any = SimpleNamespace(ring=rank.ring, steps=None, sees_groups=sees_groups)
    nobody: Any = None
    made = Rounds(
        settings=Config(**settings),
        providers=(None, None),
        capture=capture,
        groups=nobody,
        jobs=nobody,
        joined=lambda: None,
    )
    made._last = job_of(0)
    return made


def test_what_waits_as_objects_waits_for_a_short_time() -> None:
    assert rounds_of(Rank()).interval == 1
    assert rounds_of(Rank(), native=False).interval == 0.25
    assert rounds_of(Rank(), sees_groups=False).interval == 0.25, "groups are looked for in rounds"
    for native in (True, False):
        assert rounds_of(Rank(), native=native, emit_interval=3.0).interval == 3


def test_a_process_that_may_be_killed_without_a_word_does_not_wait() -> None:
    rounds = rounds_of(Rank())
    rounds._last = job_of(None)
    assert rounds.interval == 0.25


def test_a_round_is_needed_when_the_ring_fills_or_the_job_is_not_known() -> None:
    rank = Rank()
    rounds = rounds_of(rank, native=False)
    needed = [rounds.is_needed]
    for count in (rank.ring.capacity // 4, 1):
        for _ in range(count):
            event = rank.event()
            rank.ring.begin(event)
            rank.ring.finish(event, 5)
        needed.append(rounds.is_needed)
    rank.ring.drain()
    needed.append(rounds.is_needed)
    rounds._ids[job_of(0)] = None
    needed.append(rounds.is_needed)
    rounds._ids.clear()
    rounds._last = None
    assert [*needed, rounds.is_needed] == [False, False, True, False, True, True]
