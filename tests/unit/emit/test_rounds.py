"""What ends, fails or comes to be known between two rounds of the background thread; and foreign groups."""

from __future__ import annotations

import time
from typing import Any

import pytest

from otel_netmon import semconv
from otel_netmon.capture.event import CollectiveEvent
from otel_netmon.emit.hangs import HangDetector
from otel_netmon.emit.log_events import LogEvents
from otel_netmon.job import identity
from otel_netmon.job.identity import RunId
from otel_netmon.job.roles import RankIdentity
from otel_netmon.job.steps import StepMarks
from otel_netmon.job.store import JobStore
from tests.unit.emit.a_rank import ALL_REDUCE, RUN, STEP, Rank, by_name, context
from tests.unit.job.test_identity import Store


def test_what_finishes_while_the_engine_ends_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    from otel_netmon.engine import Engine

    rank = Rank()
    one = rank.event(end=None)
    rank.ring.begin(one)
    abandon = rank.ring.abandon

    def finish_first(*_: object) -> list[CollectiveEvent]:
        rank.ring.finish(one, 2000, None)
        return abandon()

    monkeypatch.setattr(rank.ring, "abandon", finish_first)
    pytest.importorskip("torch", reason="the recorder needs torch: pip install torch")
    rounds = Engine()._rounds
    monkeypatch.setattr(rounds, "_ring", rank.ring)
    job = rank.group.job = rounds._jobs.unknown()
    rounds._emitters[job] = rank.emitter
    rounds.last()
    (span,) = [s for s in rank.exported.get_finished_spans() if s.name == "all_reduce"]
    assert span.attributes is not None
    assert semconv.COLLECTIVE_STATE not in span.attributes


class Torn:
    """A tensor that can be asked nothing."""

    @property
    def layout(self) -> Any:
        raise RuntimeError("no layout")


def test_a_failure_of_ours_shifts_no_numbers() -> None:
    """Numbers tie the ranks together: one that is not drawn here would shift all that follow on this rank."""
    pytest.importorskip("torch", reason="the recorder needs torch: pip install torch")
    from otel_netmon.capture.recorder import Recorder
    from otel_netmon.capture.steps import StepTracker

    rank = Rank()
    recorder = Recorder(rank.ring, StepTracker())
    for tensors in ([], [Torn()], []):
        number = rank.group.next_sequence()
        recorder.begin(ALL_REDUCE, rank.group, None, tensors, None, number)
    assert [event.sequence for event in rank.ring.in_flight()] == [1, 3]
    assert recorder.errors == 1


def test_a_foreign_groups_collectives_are_a_trace_each_and_its_first_rank_is_the_root() -> None:
    spans = []
    store = JobStore(Store())
    run_id = RunId("job", 30, foreign=True, store=lambda: store, is_first=True)
    for number in (0, 2):
        rank = Rank(number)
        rank.group.run_id = run_id
        spans += rank.play(STEP, events=[rank.event()])
    first, other = (span for span in spans if span.name == "all_reduce")
    assert context(first).trace_id == context(other).trace_id == identity.trace_id(run_id.value or "", "0 7")
    assert first.parent is None
    assert other.parent is not None and other.parent.span_id == context(first).span_id
    assert (run_id.value or "").startswith("job+")


def test_hangs_are_told_at_most_some_at_once_and_never_silenced(caplog: pytest.LogCaptureFixture) -> None:
    rank = Rank()
    stalls = HangDetector(1.0, LogEvents())
    now = time.monotonic_ns()
    hanging = [rank.event(start=now - 2_000_000_000, end=None) for _ in range(1000)]
    for event in hanging[:10]:
        event.is_unseen = True  # nobody waits, so nobody hangs
    told = []
    for _ in range(70):
        before = len(caplog.records)
        stalls.look(now, hanging, lambda _: (1, 2), RankIdentity())
        told.append(len(caplog.records) - before)
    assert max(told) <= 16 and sum(told) == 990
    assert not any(event.span_id for event in hanging[:10])


def test_a_run_id_that_comes_within_a_round_splits_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="the recorder needs torch: pip install torch")
    from otel_netmon.engine import Engine

    engine, rank = Engine(), Rank()
    rounds = engine._rounds
    job = rank.group.job = rounds._last = rounds._jobs.unknown()
    rounds._emitters[job] = rank.emitter
    monkeypatch.setattr(rounds, "_ring", rank.ring)
    monkeypatch.setattr(rounds._jobs, "refresh", lambda: None)
    told = [StepMarks([STEP], 1, 1), StepMarks([], 1, 1)]
    monkeypatch.setattr(engine._capture.steps, "take", lambda: told.pop(0))
    event = rank.event(end=None)
    rank.ring.begin(event)
    rank.ring.finish(event, 2000)
    ids = iter([None, RUN, RUN])
    monkeypatch.setattr(job, "resolve", lambda: next(ids))
    rounds.next()
    assert rank.exported.get_finished_spans() == ()
    rounds.next()
    spans = by_name(list(rank.exported.get_finished_spans()))
    attributes = spans["rank_step"].attributes
    assert attributes is not None and attributes[semconv.STEP_COLLECTIVE_COUNT] == 1
    assert context(spans["all_reduce"]).trace_id == context(spans["rank_step"]).trace_id
