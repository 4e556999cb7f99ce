"""Ranks tell their digests through a real store; one reads them all and diagnoses, and is replaced when gone."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from otel_netmon.diagnosis.finding import Kind
from otel_netmon.diagnosis.steps import StepSample
from otel_netmon.job.slow_steps import Judged, SlowSteps
from otel_netmon.live.exchange import Exchange, Leader, StoreGone
from otel_netmon.live.judge import Look
from otel_netmon.live.outbox import Outbox, Standing
from otel_netmon.live.settling import Change
from otel_netmon.live.watch import INTERVAL, SOONER, Watch

dist = pytest.importorskip("torch.distributed", reason="needs torch: make test installs it")

RANKS = 4
STEP = 100_000_000


@pytest.fixture
def server() -> Iterator[Any]:
    yield dist.TCPStore("127.0.0.1", 0, 1, is_master=True)


@dataclass
class Rank:
    """A rank of a job whose steps are told by hand."""

    number: int
    outbox: Outbox
    watch: Watch
    slow: SlowSteps
    told: list[Change] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    steps: int = 0

    def take_steps(self, count: int, late: float = 0.0) -> None:
        for _ in range(count):
            start = self.steps * STEP
            sample = StepSample(start, start + STEP, 0.06 - late, 0.0, 0.0, 0.03, 0.0, 0.04, calls=3, size=100)
            self.outbox.step(self.steps, self.steps, sample)
            self.steps += 1


def make(rank: int, store: Any, **options: float) -> Rank:
    outbox = Outbox(rank, RANKS, f"h{rank}", clock=time.monotonic_ns, standing=Standing)
    told: list[Change] = []
    looks: list[Look] = []

    def tell(look: Look) -> None:
        looks.append(look)
        told.extend(look.changes)

    prefixed = dist.PrefixStore("group", store)
    slow = SlowSteps()
    watch = Watch(rank, RANKS, outbox, lambda: Exchange(prefixed, "run"), tell, slow=slow, **options)
    return Rank(rank, outbox, watch, slow, told, looks)


def test_the_first_rank_names_the_late_one(server: Any) -> None:
    ranks = [make(rank, server) for rank in range(RANKS)]
    for _ in range(8):
        for rank in ranks:
            rank.take_steps(4, late=0.02 * (rank.number == 2))
        for rank in reversed(ranks):
            rank.watch.look()
    (change,) = ranks[0].told
    assert (change.finding.kind, change.finding.ranks, change.is_over) == (Kind.SLOW_RANK, (2,), False)
    assert change.finding.lost == pytest.approx(0.02)
    assert not any(rank.told for rank in ranks[1:])


def test_what_two_looks_have_to_agree_on_is_looked_at_sooner(server: Any) -> None:
    ranks = [make(rank, server) for rank in range(RANKS)]
    rests: dict[bool, set[float]] = {True: set(), False: set()}
    for _ in range(8):
        for rank in ranks:
            rank.take_steps(4, late=0.02 * (rank.number == 2))
        for rank in reversed(ranks):
            rank.watch.look()
        rests[ranks[0].looks[-1].is_pending].add(ranks[0].watch.rest)
    assert rests == {True: {SOONER * INTERVAL}, False: {INTERVAL}}


@pytest.mark.parametrize("per_look", [3, 20, 44, 150])
def test_ranks_that_look_at_other_times_at_a_quick_job_are_compared(server: Any, per_look: int) -> None:
    """Each at its own moment, between which steps go on; the first finding comes soon."""
    ranks = [make(rank, server) for rank in range(RANKS)]
    looks = 0
    for number in range(per_look * 10):
        for rank in ranks:
            rank.take_steps(1, late=0.02 * (rank.number == 2))
            if number % per_look == (rank.number * per_look) // RANKS:
                rank.watch.look()
                looks += rank.number == 0 and not ranks[0].told
    assert [change.finding.ranks for change in ranks[0].told] == [(2,)]
    assert looks <= (8 if per_look < 20 else 5)


def test_another_rank_leads_when_the_first_is_gone(
    server: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otel_netmon.diagnosis.thresholds.SILENT_SECONDS", 0.3)
    caplog.set_level(logging.INFO, "otel_netmon")
    ranks = [make(rank, server, patience=0.2) for rank in range(RANKS)]
    for rank in ranks:
        rank.watch.look()
    deadline = time.monotonic() + 20
    while not ranks[1].told and time.monotonic() < deadline:
        for rank in ranks[1:]:
            rank.take_steps(4, late=0.02 * (rank.number == 2))
            rank.watch.look()
        time.sleep(0.05)
    assert ranks[1].told[0].finding.ranks == (2,)
    assert "rank 1 diagnoses from now on" in caplog.text
    # The one before is back: it does not take over again.
    ranks[0].watch.look()
    ranks[0].watch.look()
    assert not ranks[0].told


def test_who_leads_next_does_not_tell_again(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_netmon.diagnosis.thresholds.SILENT_SECONDS", 0.3)
    ranks = [make(rank, server, patience=0.2) for rank in range(RANKS)]
    deadline = time.monotonic() + 20
    while not (ranks[1].looks and ranks[1].looks[-1].told) and time.monotonic() < deadline:
        told = sum(bool(look.told) for look in ranks[0].looks) > 1  # and has said so at its next beat
        for rank in ranks[told:]:
            rank.take_steps(8, late=0.02 * (rank.number == 2))
            rank.watch.look()
        time.sleep(0.1 * told)
    assert [change.finding.ranks for change in ranks[0].told] == [(2,)]
    assert [finding.ranks for finding in ranks[1].looks[-1].told.values()] == [(2,)]
    assert not ranks[1].told


def test_a_rank_that_falls_silent_is_told(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_netmon.diagnosis.thresholds.LOST_SECONDS", 0.5)
    ranks = [make(rank, server) for rank in range(RANKS)]
    for rank in reversed(ranks):
        rank.take_steps(20)
        rank.watch.look()
    time.sleep(0.6)
    for _ in range(2):
        for rank in ranks[:3]:
            rank.watch.look()
    ranks[0].watch.look()
    assert [(change.finding.kind, change.finding.ranks) for change in ranks[0].told] == [(Kind.SILENT, (3,))]


def test_a_rank_that_ended_in_good_order_is_not_missed(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_netmon.diagnosis.thresholds.LOST_SECONDS", 0.5)
    ranks = [make(rank, server) for rank in range(RANKS)]
    ranks[3].watch.start()
    time.sleep(0.3)
    ranks[3].watch.stop(5)
    time.sleep(0.6)
    for _ in range(3):
        for rank in ranks[:3]:
            rank.watch.look()
    assert not ranks[0].told


def test_a_store_that_dies_ends_it_and_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "otel_netmon")
    store = dist.TCPStore("127.0.0.1", 0, 1, is_master=True)
    rank = make(0, dist.TCPStore("127.0.0.1", store.port, is_master=False), interval=0.05)
    rank.watch.start()
    time.sleep(0.3)
    del store
    deadline = time.monotonic() + 20
    while "live diagnosis ends" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.05)
    assert caplog.text.count("live diagnosis ends") == 1
    rank.watch.stop(5)


def test_only_digests_that_are_there_are_read(server: Any) -> None:
    exchange = Exchange(server, "run")
    exchange.publish(1, b"one")
    exchange.publish(3, b"three")
    assert list(exchange.read(range(5))) == [(1, b"one"), (3, b"three")]
    assert exchange.leader() is None
    marks = tuple(range(2**32 - 16, 2**32))
    for about in (2,), (2, marks), (1, marks, Judged(10**9, marks)), (1, (), Judged(-1, (7,))):
        leader = Leader(3, 7, *about)
        exchange.lead(leader)
        assert exchange.leader() == leader
    for nonsense in ("nonsense", "1 2", "1 2 3 4", "1 2 3 -4 5", "1 2 3 0 0 x", "9" * 300):
        server.set("otel_netmon/live/run/leader", nonsense)
        assert exchange.leader() is None


def test_a_store_without_clients_of_its_own_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreGone):
        Exchange(object(), "run")


def test_the_leaders_slow_steps_are_those_of_all(server: Any) -> None:
    ranks = [make(rank, server, patience=0.2) for rank in range(2)]
    for rank in ranks:
        rank.slow.share(True)
        for number in range(20):
            rank.slow.closed(number, 100 + number, 2.0 if number in (10, 15 + rank.number) else 1.0)

    def verdicts(rank: Rank, count: int) -> list[bool | None]:
        return [rank.slow.verdict(number, 100 + number) for number in range(count)]

    for _ in range(2):  # the other one is first: it has not heard of these yet
        for rank in reversed(ranks):
            rank.watch.look()
    assert verdicts(ranks[0], 18) == verdicts(ranks[1], 18) == [number in (10, 15) for number in range(18)]
    ranks[1].watch.look()
    time.sleep(0.4)  # rank 0 is silent: rank 1 leads
    ranks[1].watch.look()
    for number, seconds in enumerate((1.0, 2.0), 20):
        ranks[1].slow.closed(number, 100 + number, seconds)
    assert verdicts(ranks[1], 22)[-2:] == [False, True]
    for rank in reversed(ranks):
        rank.watch.look()
    assert ranks[0].slow.verdict(21, 121) is True


def test_without_the_thread_each_rank_goes_by_its_own(server: Any) -> None:
    rank = make(3, server)
    rank.watch.start()
    rank.slow.closed(1, 101, 1.0)
    assert rank.slow.verdict(1, 101) is None
    rank.watch.stop(10)
    assert rank.slow.verdict(1, 101) is False
