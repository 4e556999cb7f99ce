"""Providers are the user's: what theirs raise, and when they come, costs spans at most, never the training."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parent / "programs" / "own_provider.py"
STEPS, CALLS = 6, 12
ALL = {"all_reduce": CALLS, "rank_step": STEPS, "train_step": STEPS}
NONE = {"rank_step": STEPS, "train_step": STEPS}


def play(mode: str) -> tuple[Any, str]:
    done = subprocess.run([sys.executable, str(PROGRAM), mode], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture(scope="module")
def whole() -> Any:
    found, said = play("sound")
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
def test_training_goes_on_and_the_rest_arrives(mode: str, spans: dict[str, int], whole: Any) -> None:
    found, said = play(mode)
    assert found["losses"] == whole["losses"]
    assert found["measured"] == CALLS
    assert found["spans"] == spans
    raised = mode in ("start", "end", "rank_step")
    assert said.count("otel-netmon: a span is lost, its sampler or processor failed") == raised
    assert "Broken" in said or not raised


@pytest.mark.row("a user's own exporter, processor or sampler raises")
def test_a_sampler_that_raises_costs_the_traces_that_it_raised_for(whole: Any) -> None:
    found, said = play("sampler")
    assert found["losses"] == whole["losses"] and found["measured"] == CALLS
    steps = found["spans"].get("rank_step", 0)
    assert 0 <= steps <= STEPS and found["spans"].get("all_reduce", 0) == 2 * steps
    assert said.count("otel-netmon: a span is lost") == (steps < STEPS)
