"""`otel-netmon export perfetto`: what is drawn of a run whose truth is known."""

from __future__ import annotations

import builtins
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from otel_netmon.analysis.summary import summarise
from otel_netmon.cli import main
from tests.unit.analysis.synthetic import write_run
from tests.unit.export.trace import Trace, load

pytest.importorskip("perfetto", reason="pip install perfetto, or otel-netmon[perfetto]")


def export(folder: Path, *options: str) -> Trace:
    output = folder.parent / "out.pftrace"
    assert main(["export", "perfetto", str(folder), "-o", str(output), *options]) == 0
    trace = load(output)
    assert not trace.wrong
    return trace


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four ranks, of which rank 2 is 40 ms late from step 5 on."""
    folder = tmp_path / "run"
    write_run(folder, monkeypatch, late=lambda step, rank: 40.0 if rank == 2 and step >= 5 else rank * 0.5)
    return folder


def test_rows_are_ranks_below_their_host_and_slices_nest(run: Path) -> None:
    trace = export(run)
    rows = {trace.path(each.track) for each in trace.slices}
    assert rows == {f"host h/rank {rank}" for rank in range(4)}
    depths = {re.sub(r" \d+$", "", each.name): each.depth for each in trace.slices}
    assert depths == {"step": 0, "all_reduce": 1, "waiting for rank": 2, "transfer": 2}
    assert len(trace.named("step")) == len(trace.named("all_reduce")) == 4 * 30
    one = trace.named("all_reduce")[0]
    assert (one.about["group"], one.about["sequence"], one.about["bytes"]) == ("0", 5, 4_000_000)


def test_waiting_on_the_rows_is_the_waiting_of_the_summary(run: Path) -> None:
    trace, summary = export(run), summarise(run)
    waited: dict[str, float] = defaultdict(float)
    first = min(each.start for each in trace.named("step 1"))
    for each in trace.named("waiting"):
        if each.start >= first and each.end is not None:  # the summary leaves out step 0
            waited[trace.path(each.track)] += (each.end - each.start) / 1e9
    assert summary.waiting is not None
    for rank in summary.waiting.ranks:
        assert waited[f"host h/rank {rank.rank}"] == pytest.approx(rank.waited, abs=1e-6)


def test_a_flow_leads_from_each_waiter_to_the_entry_of_the_late_rank(run: Path) -> None:
    trace = export(run)
    waiters = trace.named("waiting")
    assert len(trace.flows()) == len(waiters) == 3 * 30
    for waiting, entry in trace.flows():
        assert waiting.name.startswith("waiting for") and entry.name == "all_reduce"
        assert trace.path(entry.track).endswith(waiting.name.removeprefix("waiting for "))
        assert waiting.end == entry.start  # one clock: the wait is over when the last one comes


def test_one_collective_has_one_colour_on_all_rows_and_the_next_another(run: Path) -> None:
    colours: dict[int, set[int]] = defaultdict(set)
    for each in export(run).named("all_reduce"):
        colours[each.about["sequence"]].add(each.colour)
    assert all(len(some) == 1 for some in colours.values())
    assert len(set.union(*colours.values())) == 30


def test_findings_are_marked_at_their_first_step(run: Path) -> None:
    trace = export(run)
    (finding,) = summarise(run).diagnoses[0].findings
    (mark,) = trace.instants
    assert (mark.name, mark.about["kind"]) == (finding.sentence, "slow_rank")
    assert mark.start == min(each.start for each in trace.named(f"step {finding.first_step}"))
    assert not export(run, "--steps", "0:1").instants


def test_chosen_steps_and_ranks(run: Path) -> None:
    trace = export(run, "--steps", "10:12", "--ranks", "0,2-3")
    assert {each.name for each in trace.named("step")} == {"step 10", "step 11", "step 12"}
    assert {trace.path(each.track) for each in trace.slices} == {f"host h/rank {rank}" for rank in (0, 2, 3)}
    assert len(trace.flows()) == 3 * 2
    without_the_late_one = export(run, "--steps", "10:12", "--ranks", "0")
    assert len(without_the_late_one.named("waiting for rank 2")) == 3 and not without_the_late_one.flows()


@pytest.mark.parametrize("option", [("--steps", "3"), ("--steps", "5:2"), ("--ranks", "x"), ("--ranks", "")])
def test_wrong_options_say_so(run: Path, option: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "perfetto", str(run), *option]) == 2
    assert "is not" in capsys.readouterr().err


def test_steps_without_spans_are_drawn_of_what_their_record_packs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(
        tmp_path / "run",
        monkeypatch,
        every=3,
        traces=lambda _: True,
        late=lambda _, rank: 40.0 if rank == 2 else 0.0,
    )
    trace = export(tmp_path / "run")
    assert len(trace.named("all_reduce")) == 4 * 30
    assert len(trace.named("waiting for rank 2")) == len(trace.flows()) == 3 * 30
    assert all(19 < (each.end or 0) - each.start < 41e6 for each in trace.named("waiting"))


def test_a_rank_without_telemetry_leaves_the_others_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "run", monkeypatch, only=(0, 1, 3), late=lambda _, rank: 5.0 * rank)
    trace = export(tmp_path / "run")
    assert len(trace.named("step")) == 3 * 30 and not trace.flows()


def test_two_runs_in_one_folder_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("run", "other"):
        write_run(tmp_path / "run", monkeypatch, run=name, steps=12, late=lambda _, rank: float(rank))
    trace = export(tmp_path / "run")
    assert len({each.track for each in trace.slices}) == 8
    assert len(trace.flows()) == 2 * 12 * 3


def test_damaged_files_are_drawn_as_far_as_they_go(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = next(run.glob("traces-*"))
    data = file.read_bytes()
    file.write_bytes(b"{nonsense\n\n" + data + data[: len(data) // 2])
    (run / "link.jsonl").symlink_to(tmp_path / "elsewhere")
    trace = export(run)
    assert len(trace.named("step")) >= 4 * 30
    assert "3 lines, records or files could not be read" in capsys.readouterr().out


def test_without_the_package_one_sentence_says_what_to_install(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name.startswith("perfetto"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.chdir(run.parent)
    assert main(["export", "perfetto", str(run)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "pip install 'otel-netmon[perfetto]'" in said
    assert [path.name for path in run.parent.iterdir()] == ["run"]  # nothing is left behind


def test_the_file_is_named_after_the_folder_and_nothing_else_is_touched(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    (run.parent / "here").mkdir()
    monkeypatch.chdir(run.parent / "here")
    assert main(["export", "perfetto", str(run)]) == 0
    assert [path.name for path in (run.parent / "here").iterdir()] == ["run.pftrace"]
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_what_cannot_be_written_and_what_holds_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "perfetto", str(run), "-o", str(tmp_path / "none" / "x")]) == 2
    assert "cannot be written" in capsys.readouterr().err
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "logs.jsonl").write_text(json.dumps({"resourceLogs": []}) + "\n")
    assert main(["export", "perfetto", str(empty), "-o", str(tmp_path / "x")]) == 2
    assert "holds no step to draw" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
