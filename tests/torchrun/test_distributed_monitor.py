"""The sweep of all_reduce sizes on real ranks: beside training's collectives, and across process groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torchrun.harness import Run, torchrun

NO_GROUP = "no process group is initialised in this process"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder: Path = tmp_path_factory.mktemp("sweep")
    finished = torchrun("sweep.py", folder)
    assert finished.code == 0, finished.output
    assert len(finished.ranks) == 2
    return finished


def test_outside_a_group_it_says_so_and_does_not_import_torch(run: Run) -> None:
    for report in run.ranks:
        assert report["before"]["reason"] == report["destroyed"]["reason"] == NO_GROUP
        assert not report["torch_was_needed"]


def test_every_size_is_timed_on_every_rank(run: Run) -> None:
    for report in run.ranks:
        for metrics in report["seen"]:
            assert "reason" not in metrics, metrics
            assert (metrics["backend"], metrics["world_size"]) == ("gloo", 2)
            assert [(point["size"], point["repetitions"]) for point in metrics["sweep"]] == [(1024, 3), (65536, 3)]
            for point in metrics["sweep"]:
                assert point["algbw"] == pytest.approx(point["size"] / point["duration"])
                assert point["busbw"] == pytest.approx(point["algbw"])  # 2 (n - 1) / n is 1 for two ranks
        assert len(report["times"]) == 3 * 2 * 3


def test_it_leaves_training_alone_and_has_a_group_of_its_own_per_default_group(run: Run) -> None:
    for report in run.ranks:
        assert report["sum"] == 2**4  # of four all_reduces of ones, on two ranks
        first, second, again = report["names"]
        assert first == second != "0"
        assert again is not None
        assert "reason" not in report["seen"][2]


def test_a_rank_alone_comes_back_with_a_reason_and_does_not_try_again(run: Run) -> None:
    first, second = run.ranks[0]["alone"]
    assert first["reason"].startswith("the sweep failed: ")
    assert second["reason"].startswith("an earlier sweep in this process group failed: ")
    assert all("reason" not in report["together"] for report in run.ranks)
