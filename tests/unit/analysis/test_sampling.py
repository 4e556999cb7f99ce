"""What is not sampled is not lost: metrics count steps and calls, and what is missing is told apart."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from otel_netmon import semconv
from otel_netmon.analysis.results import OperationSummary, StepSummary, Summary
from otel_netmon.analysis.summary import summarise
from otel_netmon.report.blocks import blocks, plain
from tests.unit.analysis.synthetic import SIZE, metrics_line, write_metrics, write_run


def steps_of(summary: Summary) -> StepSummary:
    assert summary.steps is not None
    return summary.steps


def all_reduces(summary: Summary) -> OperationSummary:
    (operation,) = summary.operations
    return operation


def said(summary: Summary) -> str:
    return " ".join(plain(blocks(summary)).split())


def missing(summary: Summary) -> tuple[int | None, int | None]:
    """Lost, and not sampled."""
    return summary.losses.missing_spans, summary.losses.sampled_out


def test_every_tenth_step_is_traced_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, monkeypatch, steps=100, every=10, says_counts=True)
    write_metrics(tmp_path, steps=100, calls=100)
    summary = summarise(tmp_path)
    assert (steps_of(summary).count, steps_of(summary).traced, steps_of(summary).median) == (100, 10, 0.1)
    assert (all_reduces(summary).calls, all_reduces(summary).spans) == (400, 40)
    assert (all_reduces(summary).size, all_reduces(summary).ranks) == (400 * SIZE, 4)
    assert missing(summary) == (0, 360)
    text = said(summary)
    assert "steps 100, 10 of them with a span: median 100 ms" in text
    assert "sampled 360 collectives have no span because their steps were not sampled" in text
    assert "dropped not reported unreadable" in text
    assert "times and bandwidths are of the 40 calls that have a span" in text


def test_all_is_traced_and_the_metrics_say_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, monkeypatch, says_counts=True)
    write_metrics(tmp_path)
    summary = summarise(tmp_path)
    assert (steps_of(summary).count, steps_of(summary).traced, missing(summary)) == (30, 30, (0, 0))
    assert "steps 30, median 100 ms" in said(summary) and "sampled" not in said(summary)


@pytest.mark.parametrize("every", [1, 10])
@pytest.mark.parametrize("has_metrics", [True, False])
@pytest.mark.parametrize(
    ("name", "count"), [("all_reduce", 2), (semconv.SPAN_RANK_STEP, 0), (None, 2)], ids=["call", "step", "both"]
)
def test_what_is_lost_of_a_traced_step_is_not_called_sampled(
    every: int, has_metrics: bool, name: str | None, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rank 2 loses spans of two steps; the others have theirs."""

    def lost(step: int, rank: int, span: str) -> bool:
        return rank == 2 and step in (10, 20) and span in (name or span, name or "all_reduce")

    write_run(tmp_path, monkeypatch, steps=100, every=every, lost=lost, says_counts=True)
    if has_metrics:
        write_metrics(tmp_path, steps=100, calls=100)
    summary = summarise(tmp_path)
    if has_metrics:
        assert missing(summary) == (count, 400 - 400 // every)
    else:  # a step's own count tells of its collectives; without it nothing does
        assert missing(summary) == (0 if name is None else count, None)


@pytest.mark.parametrize("durations", [True, False])
def test_a_rank_of_which_only_metrics_are_here(
    durations: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, monkeypatch, only=(0, 1, 3), says_counts=True)
    write_metrics(tmp_path, durations=durations)
    summary = summarise(tmp_path)
    assert (summary.ranks, summary.silent_ranks) == ((0, 1, 3), (2,))
    assert (all_reduces(summary).calls, all_reduces(summary).spans) == (120, 90)
    assert missing(summary) == (30, 0)  # the others traced those steps
    assert "4 seen (0-3) of 4; metrics but no span of: 2" in said(summary)


def test_metrics_alone(tmp_path: Path) -> None:
    write_metrics(tmp_path, steps=100, calls=100)
    summary = summarise(tmp_path)
    assert (summary.ranks, summary.silent_ranks) == ((), (0, 1, 2, 3))
    assert steps_of(summary) == StepSummary(100, 0, None, None, None, None)
    assert (all_reduces(summary).calls, all_reduces(summary).spans, all_reduces(summary).p50) == (400, 0, None)
    assert missing(summary) == (None, None)  # traces may be elsewhere
    text = said(summary)
    assert "steps 100, by the metrics; none has a span" in text and "all_reduce 0 gloo 4 400 1.60 GB" in text
    assert "no call has a span here: they were not sampled, or traces went elsewhere" in text


def test_traces_alone_say_what_they_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, monkeypatch, steps=100, every=10)
    summary = summarise(tmp_path)
    assert (steps_of(summary).count, steps_of(summary).numbered, missing(summary)) == (10, 91, (None, None))
    assert "steps 10 with a span, of at least 91 by their numbers" in said(summary)
    assert "only metrics of steps could tell" in said(summary)


def test_without_metrics_of_steps_lost_and_sampled_are_not_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, monkeypatch, steps=100, every=10, says_counts=True)
    write_metrics(tmp_path, steps=None, calls=100)
    summary = summarise(tmp_path)
    assert missing(summary) == (360, None)
    assert "360 collectives were counted but have no span here (lost, or not sampled" in said(summary)


def test_runs_in_one_folder_are_added_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run, or a second attempt: other processes, another id, numbers from 0 again."""
    for run, steps in (("run", 100), ("again", 50)):
        write_run(tmp_path, monkeypatch, steps=steps, every=10, run=run, says_counts=True)
        write_metrics(tmp_path, steps=steps, calls=steps, run=run)
    summary = summarise(tmp_path)
    assert (summary.runs, steps_of(summary).count, steps_of(summary).traced) == (("again", "run"), 150, 15)
    assert missing(summary) == (0, 4 * (90 + 45))


def test_processes_may_take_part_in_two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their default group was destroyed and created again."""
    for run in ("run", "again"):
        write_run(tmp_path, monkeypatch, run=run)
    for file in tmp_path.iterdir():
        file.write_text(file.read_text().replace('"again i', '"i'))
    summary = summarise(tmp_path)
    assert (summary.runs, steps_of(summary).count, summary.ranks) == (("again", "run"), 60, (0, 1, 2, 3))


def test_a_process_of_which_the_run_is_not_known_adds_no_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for run, only in (("run", (0, 1, 2, 3)), ("again", (0, 1, 2))):
        write_run(tmp_path, monkeypatch, run=run, only=only, says_counts=True)
        write_metrics(tmp_path, run=run)
    summary = summarise(tmp_path)
    assert (steps_of(summary).count, all_reduces(summary).calls, all_reduces(summary).spans) == (60, 240, 210)


def test_collectives_in_traces_of_their_own_are_not_missed_in_their_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step counts them too, and their spans are elsewhere: in a trace for each of them."""
    write_run(tmp_path, monkeypatch, steps=100, every=10, says_counts=True)
    for file in tmp_path.iterdir():
        records = [json.loads(line) for line in file.read_text().splitlines()]
        for record in records:
            for span in record["resourceSpans"][0]["scopeSpans"][0]["spans"]:
                if span["name"] == "all_reduce":
                    span["traceId"] = "f" * 16 + span["traceId"][16:]
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
    write_metrics(tmp_path, steps=100, calls=100)
    assert missing(summarise(tmp_path)) == (0, 360)


def test_a_run_that_died_has_older_metrics_than_spans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, monkeypatch, says_counts=True)
    write_metrics(tmp_path, steps=12, calls=13)
    for file in tmp_path.glob("*-rank*.jsonl"):
        os.truncate(file, file.stat().st_size - 40)
    summary = summarise(tmp_path)
    assert steps_of(summary).count == 30 and all_reduces(summary).calls == 120
    assert missing(summary) == (0, 0)


def test_a_run_without_capture(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(metrics_line("i0", "system.network.io", [(1, 5, {})]))
    summary = summarise(tmp_path)
    assert (summary.steps, summary.operations, missing(summary)) == (None, (), (None, None))
    assert "none was captured" in said(summary) and "none seen" in said(summary)


def test_delta_temporality_is_added_up(tmp_path: Path) -> None:
    name = semconv.STEP_DURATION_METRIC.name
    lines = [metrics_line("i0", name, [(t, 20, {})], kind="histogram", delta=True) for t in range(1, 6)]
    (tmp_path / "m.jsonl").write_text("".join(lines))
    assert steps_of(summarise(tmp_path)).count == 100


def test_a_process_without_an_id_is_known_by_its_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its spans and its metrics are in two files."""
    write_run(tmp_path, monkeypatch, steps=20, says_counts=True)
    write_metrics(tmp_path, steps=20, calls=20)
    for file in tmp_path.iterdir():
        text = file.read_text()
        for rank in range(4):
            compact = f'{{"key":"service.instance.id","value":{{"stringValue":"i{rank}"}}}}'
            spaced = f'{{"key": "service.instance.id", "value": {{"stringValue": "i{rank}"}}}}'
            now = f'{{"key":"{semconv.RANK}","value":{{"intValue":"{rank}"}}}}'
            text = text.replace(compact, now).replace(spaced, now)
        assert "service.instance.id" not in text
        file.write_text(text)
    assert missing(summarise(tmp_path)) == (0, 0)
