"""Which step each collective is in, where a loop is not one optimizer's."""

from __future__ import annotations

from pathlib import Path

from tests.torchrun.harness import torchrun
from tests.torchrun.test_all_reduce import all_reduces, attribute


def test_two_optimizers_are_one_step_and_marks_overrule_them(tmp_path: Path) -> None:
    run = torchrun("steps.py", tmp_path)
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
