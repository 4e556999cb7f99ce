"""A hang is visible while it lasts: its age as a metric, and one log event with the ids of the span to come."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torchrun.harness import forked

TD = "torch.distributed."


@pytest.mark.row("a rank hangs in a collective")
def test_a_hang_is_told_once_while_it_lasts(tmp_path: Path) -> None:
    run = forked("stalls.py", tmp_path, OTEL_NETMON_STALL_AFTER="1", OTEL_NETMON_HEARTBEAT="0")
    assert run.code == 0, run.output
    waiting, late = run.ranks
    (age,) = waiting["age"]
    assert 1.5 < age["value"] < 4
    assert age["attributes"] == {TD + "group.name": "0", TD + "backend": "gloo"}
    assert late["age"] == [] and waiting["age after"] == [] == late["logs"]
    (told,) = waiting["logs"]
    about = told["attributes"]
    assert (about[TD + "collective.name"], about[TD + "group.name"]) == ("all_reduce", "0")
    assert about[TD + "collective.size"] == 4000 and about[TD + "rank"] == 0
    assert 1 <= about[TD + "collective.age"] < 2
    (span,) = (s for s in waiting["spans"] if s["attributes"].get(TD + "collective.size") == 4000)
    assert span["attributes"][TD + "collective.sequence"] == about[TD + "collective.sequence"] == 2
    assert int(told["span_id"], 16) == int(span["context"]["span_id"], 16)
    assert int(told["trace_id"], 16) == int(span["context"]["trace_id"], 16)
    said = "all_reduce number 2 of group 0 (2 ranks) has been in flight for 1 s on rank 0"
    assert run.output.count(said) == 1
