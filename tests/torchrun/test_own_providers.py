"""Providers are the user's: what theirs raise, and when they come, costs spans at most, never the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.torchrun.harness import forked

STEPS, CALLS = 6, 12
ALL = {"all_reduce": CALLS, "rank_step": STEPS, "train_step": STEPS}
NONE = {"rank_step": STEPS, "train_step": STEPS}


def play(mode: str, folder: Path) -> tuple[Any, str]:
    run = forked("own_provider.py", folder, mode, ranks=1)
    assert run.code == 0, run.output
    (found,) = run.ranks
    return found, run.output


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Any:
    found, said = play("sound", tmp_path_factory.mktemp("sound"))
    assert found["spans"] == ALL and found["measured"] == CALLS
    assert "otel-netmon" not in said
    return found


@pytest.mark.parametrize(
    ("mode", "spans"),
    [
        ("exporter", ALL),  # the SDK logs what exporters raise; the sound one beside it has everything
        ("start", NONE),
        ("end", NONE),
        ("rank_step", {"all_reduce": CALLS}),
        ("late", ALL),  # nothing is lost that the ring could hold
        ("twice", ALL),  # the API keeps the first
        ("never", {}),
    ],
)
@pytest.mark.row("a user's own exporter, processor or sampler raises")
@pytest.mark.row("the `TracerProvider` comes late, twice or never")
def test_training_goes_on_and_the_rest_arrives(
    mode: str, spans: dict[str, int], whole: Any, tmp_path: Path
) -> None:
    found, said = play(mode, tmp_path)
    assert found["losses"] == whole["losses"]
    assert found["measured"] == CALLS
    assert found["spans"] == spans
    raised = mode in ("start", "end", "rank_step")
    assert said.count("otel-netmon: a span is lost, its sampler or processor failed") == raised
    assert "Broken" in said or not raised


@pytest.mark.row("a user's own exporter, processor or sampler raises")
def test_a_sampler_that_raises_costs_the_traces_that_it_raised_for(whole: Any, tmp_path: Path) -> None:
    found, said = play("sampler", tmp_path)
    assert found["losses"] == whole["losses"] and found["measured"] == CALLS
    steps = found["spans"].get("rank_step", 0)
    assert 0 <= steps <= STEPS and found["spans"].get("all_reduce", 0) == 2 * steps
    assert said.count("otel-netmon: a span is lost") == (steps < STEPS)
