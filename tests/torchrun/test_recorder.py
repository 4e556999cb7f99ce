"""OTEL_NETMON_CAPTURE=flight_recorder: all that the recorder held is a span, or counted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from otel_netmon import semconv
from tests.torchrun.harness import torchrun
from tests.torchrun.test_all_reduce import attribute


def run(folder: Path, how: str, size: str) -> list[Any]:
    settings = {"OTEL_NETMON_CAPTURE": "flight_recorder", "TORCH_FR_BUFFER_SIZE": size}
    done = torchrun("recorder.py", folder, how, **settings)  # type: ignore[arg-type]  # of what the test gives
    assert done.code == 0 and len(done.ranks) == 2, done.output
    assert "otel-netmon" not in done.output, done.output
    return done.ranks


def seen(report: Any) -> Counter[tuple[str, int]]:
    """By group, name and number of each collective."""
    spans = [span for span in report["spans"] if span["name"] == "all_reduce"]
    assert {attribute(span, "group.size") for span in spans} == {2}
    return Counter((attribute(span, "group.name"), attribute(span, "collective.sequence")) for span in spans)


def recorded(report: Any) -> Counter[tuple[str, int]]:
    return Counter((entry["process_group"][0], entry["collective_seq_id"]) for entry in report["entries"])


def test_every_entry_is_a_span_whatever_becomes_of_its_group(tmp_path: Path) -> None:
    """Groups that come and go between two looks, a second default group, and more calls than a look remembers."""
    for report in run(tmp_path, "groups", "20000"):
        assert recorded(report).total() == 30 + 9000 + 20
        assert seen(report) == recorded(report)


def test_what_the_recorder_overwrote_is_counted(tmp_path: Path) -> None:
    for report in run(tmp_path, "overwritten", "50"):
        spans = seen(report).total()
        assert spans < 1000 and dropped(report) == {semconv.DROP_RING_FULL: 1000 - spans, semconv.DROP_ERROR: 0}


def dropped(report: Any) -> dict[str, int]:
    points = report["metrics"].get(semconv.EVENTS_DROPPED.name, [])
    return {point["attributes"][semconv.DROP_REASON]: point["value"] for point in points}
