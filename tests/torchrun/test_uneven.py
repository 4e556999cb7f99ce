"""Ranks that do not step alike meet again in one trace per step, by the collectives that they share."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests.torchrun.harness import SEAMS, Run, forked

TD = "torch.distributed."
EVEN = 24


def traces_of(run: Run) -> list[set[str]]:
    """The traces in which each collective of the default group is, on all ranks, in their order."""
    at: dict[int, list[str]] = defaultdict(list)
    for rank in run.ranks:
        for span in rank["spans"]:
            attributes: dict[str, Any] = span["attributes"]
            if attributes.get(TD + "group.name") == "0" and TD + "collective.sequence" in attributes:
                at[attributes[TD + "collective.sequence"]].append(span["context"]["trace_id"])
    return [set(at[number]) for number in sorted(at) if len(at[number]) == len(run.ranks)]


@pytest.mark.parametrize("what", ["join", "skip", "own"])
@pytest.mark.parametrize("capture", SEAMS)
def test_the_even_steps_are_one_trace_each(capture: str, what: str, tmp_path: Path) -> None:
    run = forked("uneven.py", tmp_path, what, OTEL_NETMON_CAPTURE=capture)
    assert run.code == 0, run.output
    assert all(len(traces) == 1 for traces in traces_of(run)[-(EVEN - 2) :])  # one all_reduce per step, at least
    steps = [{s["context"]["trace_id"] for s in rank["spans"] if s["name"] == "rank_step"} for rank in run.ranks]
    assert len(steps[0] & steps[1]) >= EVEN - 1  # the first one is one with what came before it, on one rank
    ends = [max(s["attributes"].get(TD + "step", -1) for s in rank["spans"]) for rank in run.ranks]
    if what != "own":
        assert ends[0] != ends[1]  # a step's number is each rank's own count, and stays that


def test_every_nth_step_is_the_same_one_on_all_ranks(tmp_path: Path) -> None:
    """From when on the others have heard how many collectives a step has: some steps after the uneven part."""
    run = forked(
        "uneven.py", tmp_path, "join", "80", OTEL_NETMON_TRACE_EVERY="4", OTEL_NETMON_EMIT_INTERVAL="0.05"
    )
    assert run.code == 0, run.output
    chosen = []
    for rank in run.ranks:
        steps = [span for span in rank["spans"] if span["name"] == "rank_step"]
        steps.sort(key=lambda span: str(span["start_time"]))
        chosen.append([span["context"]["trace_id"] for span in steps if not span["attributes"].get(INCOMPLETE)])
    assert chosen[0][-10:] == chosen[1][-10:]
    assert 18 <= len(chosen[0]) <= 24


INCOMPLETE = TD + "step.incomplete"
