"""Every caller's collectives are seen: all, none twice, none invented; and training is not changed by it."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

import pytest

from otel_netmon import semconv
from tests.torchrun import truth
from tests.torchrun.harness import SEAMS, Run, forked

RANKS = 4
TD = "torch.distributed."


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    finished = forked("callers.py", tmp_path_factory.mktemp("plain"), "plain", ranks=RANKS, timeout=240)
    assert finished.code == 0, finished.output
    return finished


@pytest.fixture(scope="module", params=SEAMS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("callers")
    finished = forked(
        "callers.py", folder, "instrumented", ranks=RANKS, timeout=240, OTEL_NETMON_CAPTURE=request.param
    )
    assert finished.code == 0, finished.output
    return finished


def nanoseconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1e9


def within(section: dict[str, Any], time: float) -> bool:
    return bool(section["start"] <= time <= section["end"])


def test_every_section_agrees_with_the_flight_recorder(run: Run) -> None:
    for report in run.ranks:
        spans = [span for span in report["spans"] if span["name"] in semconv.SPAN_COLLECTIVES]
        assert len({span["context"]["span_id"] for span in spans}) == len(spans)
        for name, section in report["sections"].items():
            ours = [s for s in spans if within(section, nanoseconds(s["start_time"]))]
            theirs = [e for e in report["entries"] if within(section, e["time_created_ns"])]
            assert truth.in_spans(ours) == truth.in_entries(theirs), name
            assert theirs or section["counted"], name
            unrecorded = Counter(
                f"{span['attributes'][TD + 'group.name']} {span['name']}"
                for span in ours
                if span["name"] in truth.UNRECORDED
            )
            assert unrecorded == section["counted"], name


def test_the_whole_run_agrees(run: Run) -> None:
    for report in run.ranks:
        spans = [span for span in report["spans"] if span["name"] in semconv.SPAN_COLLECTIVES]
        assert truth.in_spans(spans) == truth.in_entries(report["entries"])
        assert not any(point["value"] for point in report["metrics"]["otel_netmon.events.dropped"])
        failed = [span["attributes"] for span in spans if semconv.ERROR_TYPE in span["attributes"]]
        assert failed == []


def test_what_nobody_waited_for_is_complete_too(run: Run) -> None:
    for report in run.ranks:
        section = report["sections"]["asynchronous"]
        ours = [
            span
            for span in report["spans"]
            if span["name"] == "all_reduce" and within(section, nanoseconds(span["start_time"]))
        ]
        assert len(ours) == 6
        # They were waited for 400 ms later, or never: they end when they were done.
        late = [s for s in ours if nanoseconds(s["end_time"]) - nanoseconds(s["start_time"]) > 400e6]
        assert len(late) <= 1
        assert all(TD + "collective.state" not in span["attributes"] for span in ours)


def test_results_are_bit_identical(run: Run, plain: Run) -> None:
    for ours, theirs in zip(run.ranks, plain.ranks, strict=True):
        assert ours["results"] == theirs["results"]
        assert sum(len(values) for values in theirs["results"].values()) > 30


def test_the_same_graphs_are_compiled(run: Run, plain: Run) -> None:
    for ours, theirs in zip(run.ranks, plain.ranks, strict=True):
        assert ours["dynamo"] == theirs["dynamo"]
        assert theirs["dynamo"]["stats"]["unique_graphs"] >= 1


def test_the_same_collectives_are_made(run: Run, plain: Run) -> None:
    """DDP's buckets, FSDP's all_gathers: as many, and of the same sizes."""
    for ours, theirs in zip(run.ranks, plain.ranks, strict=True):
        made = [
            Counter((e["process_group"][0], e["profiling_name"], str(e["input_sizes"])) for e in report["entries"])
            for report in (ours, theirs)
        ]
        assert made[0] == made[1]


def test_ranks_agree_on_sequence_numbers(run: Run) -> None:
    """On each group, the same number is the same operation on every rank."""
    named: dict[tuple[str, int], set[str]] = {}
    for report in run.ranks:
        for span in report["spans"]:
            attributes = span["attributes"]
            if TD + "collective.sequence" not in attributes or attributes[TD + "group.size"] != RANKS:
                continue
            if within(report["sections"]["a_second_default_group"], nanoseconds(span["start_time"])):
                continue  # another group of the same name
            key = attributes[TD + "group.name"], attributes[TD + "collective.sequence"]
            named.setdefault(key, set()).add(span["name"])
    assert len(named) > 100
    assert all(len(names) == 1 for names in named.values())
