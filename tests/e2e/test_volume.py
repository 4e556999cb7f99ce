"""A job whose single collectives are too many to be sent: what of it goes out, and what stays on the host."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from otel_netmon.records import Collective, RankStep
from tests.e2e.test_evidence import train
from tests.wrote import wrote

pytest.importorskip("torch", reason="needs torch: make test installs it")

PROGRAM = Path(__file__).parent / "programs" / "slow_steps.py"
STEPS = 90
SLOW = {29, 59, 89}
EARLY = 40


def job(folder: Path, *arguments: str, code: int = 0) -> tuple[list[RankStep], list[Collective]]:
    """The steps and the collectives that went out."""
    environ = {
        "OTEL_NETMON_VOLUME": "steps",
        "OTEL_NETMON_TRACE_EVERY": "20",
        "OTEL_NETMON_STEPS_DIR": str(folder / "host"),
    }
    train(folder, environ, "--output", str(folder / "out"), program=PROGRAM, arguments=arguments, expected=code)
    steps = [one for _, one in wrote(folder / "out", RankStep) if one.name == "rank_step"]
    return steps, [one for _, one in wrote(folder / "out", Collective)]


def test_each_step_goes_out_and_all_of_few(tmp_path: Path) -> None:
    steps, collectives = job(tmp_path, str(STEPS))
    whole = [one for one in steps if not one.incomplete]
    assert Counter((one.rank, one.step) for one in whole) == {(r, s): 1 for r in (0, 1) for s in range(STEPS)}
    assert all(one.collective_count and one.groups for one in whole)
    chosen = [{one.step for one in whole if one.calls and one.rank == rank} for rank in (0, 1)]
    assert all({*range(0, STEPS, 20)} | SLOW <= each for each in chosen)
    # Of the last ones rank 0 has no time to tell. And the machine may have made more of them slow.
    early = [{step for step in each if step is not None and step < EARLY} for each in chosen]
    assert early[0] == early[1] and len(early[0]) < EARLY / 2
    traces = {one.trace_id: one.step for one in whole if one.step in range(20, STEPS, 20)}
    spans = Counter((traces.get(one.trace_id), one.rank) for one in collectives)
    assert spans == {(one.step, one.rank): one.collective_count for one in whole if one.trace_id in traces}
    on_host = [one for _, one in wrote(tmp_path / "host", RankStep) if one.name == "rank_step"]
    assert Counter((one.rank, one.step) for one in on_host if len(one.calls) == one.collective_count) == Counter(
        (one.rank, one.step) for one in steps
    )


def test_what_failed_is_told_whole(tmp_path: Path) -> None:
    steps, collectives = job(tmp_path, "15", "exit", code=1)
    (last,) = [one for one in steps if one.incomplete]
    failed = [one for one in collectives if one.error]
    assert last.rank == 0 and last.calls and [one.trace_id for one in failed] == [last.trace_id]
    assert failed[0].error_message


@pytest.mark.row("a rank of a large job (`OTEL_NETMON_VOLUME=steps`) is killed")
def test_a_killed_rank_leaves_its_last_steps_on_the_host(tmp_path: Path) -> None:
    steps, _ = job(tmp_path, "40", "kill", code=1)
    sent = {one.step or 0 for one in steps if one.rank == 1}
    kept = {one.step or 0 for _, one in wrote(tmp_path / "host", RankStep) if one.rank == 1 and one.calls}
    assert kept >= {*range(30)} and max(kept) > max(sent) and sent <= kept
