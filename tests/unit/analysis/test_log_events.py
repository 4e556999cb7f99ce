"""Steps that were not sampled are known from their log events: what is lost and what is not is told exactly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from otel_netmon import semconv
from otel_netmon.analysis.results import Alive, Summary
from otel_netmon.analysis.summary import summarise
from otel_netmon.records import Heartbeat, InFlight
from tests.unit.analysis.synthetic import SIZE, write_metrics, write_run
from tests.unit.analysis.test_sampling import all_reduces, missing, said, steps_of
from tests.unit.store.test_reader import pairs

LATE = 2
with_and_without_metrics = pytest.mark.parametrize("has_metrics", [True, False])


def blamed(summary: Summary) -> tuple[int, ...]:
    (diagnosis,) = summary.diagnoses
    return diagnosis.findings[0].ranks


def late(step: int, rank: int) -> float:
    return 50.0 * (rank == LATE)


@with_and_without_metrics
def test_every_tenth_step_is_traced_and_all_steps_are_known(
    has_metrics: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, monkeypatch, steps=100, every=10, late=late, traces=lambda rank: True)
    if has_metrics:
        write_metrics(tmp_path, steps=100, calls=100)
    summary = summarise(tmp_path)
    assert missing(summary) == (0, 360)
    steps, operation, waiting = steps_of(summary), all_reduces(summary), summary.waiting
    assert (steps.count, steps.traced, steps.timed, steps.median, steps.p99) == (100, 10, 100, 0.1, 0.1)
    assert (operation.calls, operation.spans, operation.size) == (400, 40, 400 * SIZE)
    assert (operation.operation, operation.backend, operation.ranks) == ("all_reduce", "gloo", 4)
    assert (operation.p50, operation.p99) == (0.06, 0.06)
    assert blamed(summary) == (LATE,)
    assert waiting is not None and (waiting.matched, waiting.unmatched, waiting.steps) == (99, 0, 99)
    assert waiting.ranks[0].share == pytest.approx(0.5)
    text = said(summary)
    assert "steps 100, 10 of them with a span: median 100 ms, p99 100 ms (of 100 steps)" in text
    assert "360 collectives have no span because their steps were not sampled" in text
    assert "times are of 400 calls, bandwidths of the 40 that have a span" in text


@with_and_without_metrics
def test_spans_that_are_lost_are_not_called_sampled(
    has_metrics: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(step: int, rank: int, span: str) -> bool:
        return rank == LATE and step in (10, 20) and span == "all_reduce"

    write_run(tmp_path, monkeypatch, steps=100, every=10, lost=lost, traces=lambda rank: True)
    if has_metrics:
        write_metrics(tmp_path, steps=100, calls=100)
    assert missing(summarise(tmp_path)) == (2, 360)


@with_and_without_metrics
@pytest.mark.parametrize("is_lost", [False, True])
def test_ranks_that_make_no_spans_of_their_collectives(
    is_lost: bool, has_metrics: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their steps have spans all the same."""

    def lost(step: int, rank: int, span: str) -> bool:
        return is_lost and rank == 0 and step in (10, 20) and span == "all_reduce"

    write_run(tmp_path, monkeypatch, late=late, lost=lost, traces=lambda rank: rank < 2)
    if has_metrics:
        write_metrics(tmp_path)
    summary = summarise(tmp_path)
    assert missing(summary) == (2 * is_lost, 60)
    steps, waiting = steps_of(summary), summary.waiting
    assert (steps.count, steps.traced, steps.timed, steps.span) == (30, 30, 30, "train_step")
    assert (all_reduces(summary).calls, all_reduces(summary).spans) == (
        120 - (0 if has_metrics else 2 * is_lost),
        60 - 2 * is_lost,
    )
    assert blamed(summary) == (LATE,)
    assert waiting is not None and (waiting.matched, waiting.unmatched) == (29 - 2 * is_lost, 2 * is_lost)


def test_of_a_rank_that_makes_none_a_step_is_lost_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What other ranks say of the step does not make its collectives lost spans."""

    def lost(step: int, rank: int, span: str) -> bool:
        return rank == 3 and step == 10 and span == semconv.SPAN_RANK_STEP

    write_run(tmp_path, monkeypatch, lost=lost, traces=lambda rank: rank < 2)
    write_metrics(tmp_path)
    assert missing(summarise(tmp_path)) == (0, 60)


@pytest.mark.parametrize(
    ("logs", "known"),
    [
        (lambda step, rank: False, None),
        (lambda step, rank: rank != 1, 270),
        (lambda step, rank: step < 50 or rank != 1, 315),
        (lambda step, rank: step < 50, 180),
    ],
    ids=["all", "one rank's", "one rank's from then on", "all from then on"],
)
@with_and_without_metrics
def test_log_events_that_are_lost_are_made_up_for_by_metrics(
    has_metrics: bool, logs: object, known: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(logs)
    write_run(tmp_path, monkeypatch, steps=100, every=10, traces=lambda rank: True, logs=logs)
    if has_metrics:
        write_metrics(tmp_path, steps=100, calls=100)
    summary = summarise(tmp_path)
    assert missing(summary) == (0, 360 if has_metrics else known)
    assert steps_of(summary).count == (100 if has_metrics or known in (270, 315) else 10 if known is None else 55)
    assert all_reduces(summary).calls == (400 if has_metrics else 40 + (known or 0))


def test_nothing_is_sampled_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the first step: all is known, but for the backend and the bandwidths."""
    write_run(tmp_path, monkeypatch, late=late, traces=lambda rank: True, every=1 << 20)
    for file in tmp_path.glob("traces-*"):
        file.unlink()
    summary = summarise(tmp_path)
    assert (missing(summary), summary.ranks, summary.runs) == ((0, 116), (0, 1, 2, 3), ("run",))
    steps, operation, waiting = steps_of(summary), all_reduces(summary), summary.waiting
    assert (steps.count, steps.traced, steps.span, steps.median) == (29, 0, "rank_step", 0.1)
    assert (operation.calls, operation.spans, operation.backend, operation.size) == (116, 0, "", 116 * SIZE)
    assert (operation.p50, operation.algbw) == (0.06, None)
    assert waiting is not None and waiting.matched == 29
    assert blamed(summary) == (LATE,)
    assert "steps 29, 0 of them with a span: median 100 ms" in said(summary)


def test_a_rank_without_spans_is_alive_when_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it was at is what it said last, in whichever file."""
    write_run(tmp_path, monkeypatch, ranks=8, only=(0, 1))
    hanging = (InFlight("all_reduce", "0", 5, None, 61.5), InFlight("barrier", "0", 6, None, 1.0))
    logs = [
        (9, semconv.EVENT_HEARTBEAT, Heartbeat(rank=2, step=1, in_flight=hanging)),
        (2, semconv.EVENT_HEARTBEAT, Heartbeat(rank=2, step=0)),
        (5, semconv.EVENT_HEARTBEAT, Heartbeat(rank=0, in_flight=hanging)),
        (5, semconv.EVENT_HEARTBEAT, Heartbeat(rank=3)),
        (3, semconv.EVENT_HEARTBEAT, Heartbeat(rank=4, step=0)),
        (4, semconv.EVENT_STALLED, hanging[1]._replace(rank=4)),
    ]
    records = [
        {"timeUnixNano": str(time), "eventName": name, "attributes": pairs(record)} for time, name, record in logs
    ]
    write_metrics(tmp_path, ranks=6)
    message = {"resourceLogs": [{"scopeLogs": [{"logRecords": records}]}]}
    (tmp_path / "logs.jsonl").write_text(json.dumps(message) + "\n")
    summary = summarise(tmp_path)
    assert (summary.ranks, summary.silent_ranks) == ((0, 1), (5,))
    assert summary.alive == (
        Alive(2, 1, "all_reduce", "0", 61.5),
        Alive(3, None, None, None, None),
        Alive(4, None, "barrier", "0", 1.0),
    )
    text = said(summary)
    assert (
        "6 seen (0-5) of 8; NOT SEEN: 6-7; metrics but no span of: 5; alive but no span of: 2 (step 1, in" in text
    )
    assert "in all_reduce of group 0 for 61.5 s), 3 (no collective in flight), 4 (in barrier of group 0" in text
