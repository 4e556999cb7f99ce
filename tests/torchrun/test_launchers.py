"""Ranks that come about in other ways than one torchrun: spawned, and started again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from otel_netmon import semconv
from tests.torchrun import truth
from tests.torchrun.harness import PROGRAMS, ROOT, SEAMS, torchrun


@pytest.mark.parametrize("capture", SEAMS)
def test_spawned_ranks_know_who_they_are_from_their_group(capture: str, tmp_path: Path) -> None:
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "TORCH_", "MASTER_", "RANK"))}
    environ |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TORCH_FR_BUFFER_SIZE": "1000"}
    environ["OTEL_NETMON_CAPTURE"] = capture
    subprocess.run(
        [sys.executable, str(PROGRAMS / "spawned.py"), str(tmp_path)], env=environ, timeout=120, check=True
    )
    reports = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(3)]
    traces = set()
    for rank, report in enumerate(reports):
        spans = [span for span in report["spans"] if span["name"] in semconv.SPAN_COLLECTIVES]
        assert truth.in_spans(spans) == truth.in_entries(report["entries"]) == Counter({("0", "all_reduce"): 5})
        assert {span["attributes"][semconv.RANK] for span in spans} == {rank}
        above = [span for span in report["spans"] if span["name"] not in semconv.SPAN_COLLECTIVES]
        assert {span["attributes"][semconv.WORLD_SIZE] for span in above} == {3}
        traces |= {span["context"]["trace_id"] for span in spans}
    assert len(traces) == 1


def attempt(folder: Path, number: int) -> list[dict[str, Any]]:
    files = [folder / f"attempt{number}" / f"{rank}.json" for rank in range(2)]
    return [span for file in files for span in json.loads(file.read_text())["spans"]]


@pytest.mark.parametrize("capture", SEAMS)
def test_a_restart_is_a_run_of_its_own_linked_to_the_one_before(capture: str, tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"attempt{number}").mkdir()
    run = torchrun("restarted.py", tmp_path, options=("--max-restarts=1",), OTEL_NETMON_CAPTURE=capture)
    assert run.code == 0, run.output
    first, second = attempt(tmp_path, 0), attempt(tmp_path, 1)
    traces = [{span["context"]["trace_id"] for span in spans} for spans in (first, second)]
    assert not traces[0] & traces[1]
    assert [len(each) for each in traces] == [4, 4]  # setup, two steps, and what was open
    names = [
        [s["attributes"].get(semconv.RUN_ID) for s in spans if s["name"] == "setup"] for spans in (first, second)
    ]
    assert names[1] == [f"{names[0][0]}.1"]
    assert {s["attributes"].get(semconv.ATTEMPT) for s in second if s["name"] == "rank_step"} == {1}
    assert not any(semconv.ATTEMPT in s["attributes"] for s in first)
    (before,) = (span for span in first if span["name"] == "setup")
    (after,) = (span for span in second if span["name"] == "setup")
    assert [link["context"]["span_id"] for link in after["links"]] == [before["context"]["span_id"]]
    assert [link["context"]["trace_id"] for link in after["links"]] == [before["context"]["trace_id"]]
