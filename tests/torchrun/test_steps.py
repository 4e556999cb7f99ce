"""Which step each collective is in, where a loop is not one optimizer's."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.torchrun.harness import forked, torchrun
from tests.torchrun.test_all_reduce import all_reduces, attribute


@pytest.mark.parametrize("optimize", [False, True])  # PYTHONOPTIMIZE takes assertions and docstrings out
def test_two_optimizers_are_one_step_and_marks_overrule_them(tmp_path: Path, optimize: bool) -> None:
    if optimize:
        # All of torch is compiled for it, once: what the launcher compiles, the ranks find.
        compiled = str(tmp_path / "compiled")
        run = torchrun(
            "steps.py", tmp_path, PYTHONOPTIMIZE="2", PYTHONPYCACHEPREFIX=compiled, PYTHONDONTWRITEBYTECODE=""
        )
    else:
        run = forked("steps.py", tmp_path)
    assert run.code == 0, run.output
    for report in run.ranks:
        steps = {s["context"]["span_id"]: s for s in report["spans"] if s["name"] == "rank_step"}
        contents: dict[int, list[int]] = {}
        for span in all_reduces(report):
            step = steps[span["parent_id"]]
            contents.setdefault(attribute(step, "step"), []).append(attribute(span, "collective.element_count"))
            assert step["start_time"] <= span["start_time"]
        # What comes between two marked steps is counted to the next; after the last, to one that never ended.
        assert contents == {0: [1, 2], 1: [1, 2], 2: [1, 2], 3: [3, 4], 4: [5, 3, 4], 5: [5]}
        incomplete = [attribute(s, "step") for s in steps.values() if attribute(s, "step.incomplete")]
        assert incomplete == [5]


def where(report: Any) -> dict[Any, list[int]]:
    """Element counts of the all_reduces below 1,000 elements, by step number, ``setup`` or ``window``."""
    parents = {s["context"]["span_id"]: s for s in report["spans"] if s["name"].startswith("rank_")}
    found: dict[Any, list[int]] = {}
    for span in all_reduces(report):
        parent = parents[span["parent_id"]]
        key = attribute(parent, "step") if parent["name"] == "rank_step" else parent["name"][len("rank_") :]
        if attribute(span, "collective.element_count") < 1000:
            found.setdefault(key, []).append(attribute(span, "collective.element_count"))
    return found


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("accumulation", {"setup": [1], 0: [10] * 4, 1: [11] * 4, 2: [12] * 4}),
        # The scaler skips the step with infinite gradients: what it did is counted to the next one.
        ("scaler", {"setup": [1], 0: [10], 1: [11, 12], 2: [13]}),
        # An evaluation between two steps is counted to the one that ends next; the last to one that never ended.
        ("evaluation", {"setup": [1], 0: [10], 1: [20, 11], 2: [21, 12], 3: [22]}),
    ],
)
def test_other_loops(tmp_path: Path, shape: str, expected: dict[Any, list[int]]) -> None:
    run = forked("loops.py", tmp_path, shape)
    assert run.code == 0, run.output
    for report in run.ranks:
        assert where(report) == expected
        steps = [s for s in report["spans"] if s["name"] == "rank_step"]
        for step in steps:
            if attribute(step, "step.incomplete"):
                continue
            assert attribute(step, "step.collective_count") >= len(expected[attribute(step, "step")])
            duration = nanoseconds(step["end_time"]) - nanoseconds(step["start_time"])
            assert 0 < attribute(step, "step.collective_time") * 1e9 <= duration * 1.001
            assert 0 <= attribute(step, "step.first_collective") * 1e9 <= duration
            assert attribute(step, "step.wait_time") * 1e9 <= duration
            below = [s for s in report["spans"] if s["parent_id"] == step["context"]["span_id"]]
            starts = [nanoseconds(s["start_time"]) for s in below if attribute(s, "collective.async")]
            issued, began = attribute(step, "step.issue_time"), nanoseconds(step["start_time"])
            assert issued is None if not starts else 0 <= issued * 1e9 <= max(starts) - began + 2000
            assert attribute(step, "step.cpu_time") > 0
            assert attribute(step, "step.run_queue_time") is not None or not Path("/proc/self/schedstat").exists()
        if shape == "evaluation":
            assert sum(attribute(step, "step.data_time") for step in steps) > 0


def nanoseconds(text: str) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() * 1e9


def test_without_steps_the_traces_are_windows_of_the_clock(tmp_path: Path) -> None:
    run = forked("loops.py", tmp_path, "no_optimizer", OTEL_NETMON_WINDOW="0.1", OTEL_NETMON_EMIT_INTERVAL="0.05")
    assert run.code == 0, run.output
    for rank, report in enumerate(run.ranks):
        seen = where(report)
        assert sorted(size for sizes in seen.values() for size in sizes) == [1, *range(10, 18)]
        assert len(seen["window"]) >= 5
        roots = [s for s in report["spans"] if s["name"] == "window"]
        assert (len(roots) > 2) == (rank == 0)
        assert all(nanoseconds(s["end_time"]) - nanoseconds(s["start_time"]) <= 1.01e8 for s in roots)
    traces = [{s["context"]["trace_id"] for s in r["spans"] if s["name"] == "rank_window"} for r in run.ranks]
    assert traces[0] & traces[1]  # a window has the same trace on both ranks
