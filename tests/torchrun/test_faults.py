"""Failures reach the caller unchanged, and the spans say them."""

from __future__ import annotations

from pathlib import Path

from tests.torchrun.harness import torchrun

TD = "torch.distributed."


def test_failures_pass_unchanged_and_are_said(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "ours").mkdir()
    plain = torchrun("faults.py", tmp_path / "plain", "plain")
    ours = torchrun("faults.py", tmp_path / "ours", "instrumented")
    assert (plain.code, ours.code) == (0, 0), ours.output
    assert [r["raised"] for r in ours.ranks] == [r["raised"] for r in plain.ranks]
    assert len(ours.ranks[0]["raised"]) == 4

    spans = [s for s in ours.ranks[0]["spans"] if s["name"] == "all_reduce"]
    bad_type, bad_layout, timed_out, in_flight = spans
    for span, error in (
        (bad_type, "RuntimeError"),
        (bad_layout, "NotImplementedError"),
        (timed_out, "RuntimeError"),
    ):
        assert span["status"]["status_code"] == "ERROR"
        assert span["attributes"]["error.type"] == error
        assert TD + "collective.algbw" not in span["attributes"]
    assert in_flight["status"]["status_code"] == "UNSET"
    assert in_flight["attributes"][TD + "collective.state"] == "in_flight"
    assert "error.type" not in in_flight["attributes"]

    points = [
        point
        for point in ours.ranks[0]["metrics"][TD + "collective.duration"]
        if point["attributes"][TD + "collective.name"] == "all_reduce"
    ]
    by_error = {
        (p["attributes"][TD + "group.name"], p["attributes"].get("error.type")): p["count"] for p in points
    }
    assert by_error == {
        ("0", "RuntimeError"): 1,
        ("0", "NotImplementedError"): 1,
        (timed_out["attributes"][TD + "group.name"], "RuntimeError"): 1,
    }
