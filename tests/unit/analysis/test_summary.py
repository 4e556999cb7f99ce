"""A run written through the real SDK and our exporters is summed up to figures known beforehand."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from otel_netmon import semconv
from otel_netmon.analysis.nics import NicTotal
from otel_netmon.analysis.operations import percentile
from otel_netmon.analysis.results import Summary
from otel_netmon.analysis.summary import summarise
from otel_netmon.analysis.waiting import Matcher, Waiting
from otel_netmon.diagnosis.finding import Finding, Kind
from otel_netmon.store.problems import FolderError
from tests.unit.analysis.synthetic import SIZE, Lateness, metrics_line, write_run


def waiting_of(summary: Summary) -> Waiting:
    assert summary.waiting is not None
    return summary.waiting


def findings_of(summary: Summary) -> tuple[Finding, ...]:
    (diagnosis,) = summary.diagnoses
    return diagnosis.findings


def test_figures_of_a_run_with_a_late_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, monkeypatch, late=lambda step, rank: 50.0 if rank == 2 else 0.0)
    summary = summarise(tmp_path)

    assert (summary.ranks, summary.world_size, summary.runs) == ((0, 1, 2, 3), 4, ("run",))
    assert summary.steps is not None
    assert (summary.steps.count, summary.steps.median, summary.steps.span) == (30, 0.1, "train_step")
    (operation,) = summary.operations
    assert (operation.operation, operation.group, operation.backend) == ("all_reduce", "0", "gloo")
    assert (operation.calls, operation.ranks, operation.group_size, operation.size) == (120, 4, 4, 120 * SIZE)
    assert (operation.p50, operation.p99) == (0.06, 0.06)
    moved, spent = 120 * SIZE, 30 * (3 * 0.06 + 0.01)
    assert operation.algbw == pytest.approx(moved / spent)
    assert operation.busbw == pytest.approx(1.5 * moved / spent)

    waiting = waiting_of(summary)
    assert (waiting.matched, waiting.unmatched, waiting.steps) == (29, 0, 29)
    waited = {rank.rank: rank.waited for rank in waiting.ranks}
    assert waited == pytest.approx({0: 1.45, 1: 1.45, 2: 0.0, 3: 1.45})
    assert waiting.ranks[0].share == pytest.approx(0.5)
    assert {rank.rank: rank.waited_for for rank in waiting.ranks} == {0: 0, 1: 0, 2: 29, 3: 0}
    (finding,) = findings_of(summary)
    assert (finding.kind, finding.ranks) == (Kind.SLOW_RANK, (2,))
    assert finding.lost == pytest.approx(0.05)
    assert (finding.first_step, finding.last_step) == (2, 29)
    assert finding.lost_rank_seconds == pytest.approx(0.2)
    json.dumps(summary.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("late", "kind", "ranks"),
    [
        (lambda step, rank: 1.0 if rank == 2 else 0.0, Kind.NOTHING, ()),
        (lambda step, rank: 40.0 if rank == step % 4 else 0.0, Kind.NOTHING, ()),
        (lambda step, rank: random.Random(step * 8 + rank).uniform(0, 60), Kind.NOTHING, ()),
        (lambda step, rank: 90.0 if step % 5 == 1 and rank == 3 else 0.0, Kind.PAUSES, (3,)),
        (lambda step, rank: 5000.0 if step == 0 and rank == 1 else 0.0, Kind.NOTHING, ()),
    ],
    ids=["small", "in turn", "noise", "now and then", "only at the start"],
)
def test_no_rank_is_blamed_without_cause(
    late: Lateness, kind: Kind, ranks: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, monkeypatch, late=late)
    (finding,) = findings_of(summarise(tmp_path))
    assert (finding.kind, finding.ranks) == (kind, ranks)


def test_a_missing_rank_leaves_collectives_unmatched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, monkeypatch, late=lambda step, rank: 50.0 * (rank == 2), only=(1, 2, 3))
    summary = summarise(tmp_path)
    waiting = waiting_of(summary)
    assert (waiting.matched, waiting.unmatched) == (0, 29)
    assert waiting.ranks == ()
    assert (summary.ranks, summary.world_size) == ((1, 2, 3), 4)
    assert summary.steps is not None
    assert (summary.steps.span, summary.steps.count) == ("rank_step", 30)


def test_two_runs_in_one_folder_do_not_match_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the same sequence numbers, in traces of another run: rank 0 of one, rank 1 of the other
    write_run(tmp_path, monkeypatch, ranks=2, only=(0,))
    other = tmp_path / "other"
    write_run(other, monkeypatch, ranks=2, only=(1,))
    (file,) = other.iterdir()
    (tmp_path / file.name).write_text(file.read_text().replace("0abc000000", "0def000000"))
    assert "0def000000" in (tmp_path / file.name).read_text()
    assert waiting_of(summarise(tmp_path)).matched == 0


def test_nic_totals_are_what_moved_between_the_samples(tmp_path: Path) -> None:
    def io(
        instance: str, direction: str, *values: tuple[int, float], nic: str = "eth0", delta: bool = False
    ) -> str:
        attributes = {semconv.INTERFACE: nic, semconv.DIRECTION: direction}
        return metrics_line(instance, semconv.NIC_IO.name, ((*v, attributes) for v in values), delta=delta)

    lines = [
        io("a", "receive", (10, 5_000_000), (20, 5_000_700)),
        io("a", "receive", (30, 5_001_000)),
        io("a", "transmit", (10, 900), (20, 50), (30, 80)),  # reset: the interval it fell in counts nothing
        io("b", "receive", (20, 5_000_700), (30, 5_001_000)),  # a second process sees the same NIC: not twice
        io("a", "receive", (10, 77), nic="once"),
        io("c", "receive", (10, 10**9), (15, 40), (20, 2), nic="delta", delta=True),
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(lines))
    assert summarise(tmp_path).nics == (
        NicTotal("h", "delta", 42, None, 10.0),
        NicTotal("h", "eth0", 1000, 30, 20.0),
    )


def test_losses_are_counted_and_absent_when_not_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, monkeypatch)
    losses = summarise(tmp_path).losses
    assert (losses.dropped, losses.missing_spans) == (None, None)

    reasons = ({semconv.DROP_REASON: "ring_full"}, {semconv.DROP_REASON: "error"})
    lines = [
        metrics_line("i0", semconv.EVENTS_DROPPED.name, [(t, t, reasons[0]), (t, 1, reasons[1])]) for t in (1, 4)
    ]
    lines.append(metrics_line("i1", semconv.EVENTS_DROPPED.name, [(4, 2, reasons[0])]))
    name = semconv.COLLECTIVE_DURATION_METRIC.name
    lines += [metrics_line("i0", name, [(t, count, {})], kind="histogram") for t, count in ((1, 10), (2, 33))]
    lines.append(metrics_line("i1", name, [(1, 7, {})], kind="histogram"))  # older than the spans: nothing missing
    (tmp_path / "metrics.jsonl").write_text("".join(lines))
    losses = summarise(tmp_path).losses
    assert losses.dropped == {"ring_full": 6, "error": 1}
    assert losses.missing_spans == 3


def test_a_killed_process_costs_its_last_line_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, monkeypatch, ranks=2)
    victim = max(tmp_path.iterdir())
    whole = victim.read_bytes()
    line, _, _ = whole.partition(b"\n")
    victim.write_bytes(whole + line[: len(line) // 2])
    summary = summarise(tmp_path)
    assert (summary.losses.truncated_lines, summary.losses.corrupt_lines) == (1, 0)
    assert summary.operations[0].calls == 60


@pytest.mark.parametrize("content", [None, "", "{}\n", '{"a": 1}\nnonsense\n'])
def test_nothing_to_sum_up_is_one_sentence(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(FolderError, match=r"^[^\n]+holds no telemetry: [^\n]+$"):
        summarise(tmp_path)
    for wrong in (tmp_path / "missing", Path(__file__)):
        with pytest.raises(FolderError):
            summarise(wrong)


def test_progress_ends_at_the_total(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, monkeypatch)
    seen: list[tuple[int, int]] = []
    summarise(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] == sum(path.stat().st_size for path in tmp_path.iterdir())


def test_percentile_is_one_of_the_values() -> None:
    values = [float(i) for i in range(1, 101)]
    assert [percentile(values, q) for q in (0.0, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]
    assert percentile([], 0.5) is None
    assert percentile([3.0], 0.99) == 3.0


def test_setup_and_the_first_step_say_nothing_of_waiting() -> None:
    matcher = Matcher()
    for trace in range(4):
        for rank, seconds in enumerate((0.1, 0.2)):
            matcher.add((trace, "0", "all_reduce"), 1, 2, rank, seconds)
    found = matcher.measure({0: -1, 1: 0, 2: 1}, {2: 1.0}, {})  # setup, step 0, step 1, and a window of the clock
    assert found.matched == 2
