"""What a rank tells of where it is."""

from __future__ import annotations

import time
from typing import Any

import pytest

from otel_netmon.capture.event import CollectiveEvent, CollectiveKind
from otel_netmon.job.groups import Group
from otel_netmon.live.rank import OwnRank
from tests.unit.emit.a_rank import ALL_REDUCE

S = 10**9
WORLD = Group("0", 2, 0, "gloo")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    now = [100 * S]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    return now


def call(start: int, number: int | None = 7) -> CollectiveEvent:
    return CollectiveEvent(CollectiveKind(ALL_REDUCE, WORLD, 400), start, 0, number)


def told(rank: OwnRank) -> Any:
    return rank.outbox.next()


def test_a_call_that_hangs_is_told_one_by_one(clock: list[int]) -> None:
    rank = OwnRank(1, 2, "host")
    rank.standing(clock[0], 90 * S, [call(99 * S), call(95 * S, 6), call(95 * S, None)], {WORLD: 7}, {WORLD: 5})
    digest = told(rank)
    assert [(each.group, each.sequence, each.call.start) for each in digest.calls] == [("0", 6, 95 * S)]
    assert digest.groups == (("0", 2, 7, 5),) and digest.open_since == 90 * S


def test_one_that_was_in_flight_when_it_was_last_seen_may_have_ended_since(clock: list[int]) -> None:
    """The thread that looks may be late itself, under load."""
    rank = OwnRank(1, 2, "host")
    rank.standing(clock[0], 0, [call(99 * S)], {WORLD: 7}, {WORLD: 6})
    clock[0] += 10 * S
    assert told(rank).calls == ()


def test_how_long_a_quota_stopped_it(clock: list[int]) -> None:
    assert told(OwnRank(1, 2, "host", lambda: 1_500_000)).throttled == 1500
    assert told(OwnRank(1, 2, "host")).throttled is None
