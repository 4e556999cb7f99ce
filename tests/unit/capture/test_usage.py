"""What a step used is booked where it was."""

from __future__ import annotations

import gc
import time
from typing import Any

import pytest

from otel_netmon.capture.steps import StepTracker
from otel_netmon.capture.usage import UsageSampler

pytest.importorskip("torch", reason="pip install torch")


def test_a_collection_across_a_steps_end_counts_in_both_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    sampler = UsageSampler(lambda: 0)
    gc.disable()
    try:
        sampler.install()
        collecting = gc.callbacks[-1]
        first = sampler.read()
        now[0] = 100
        collecting("start", {})
        now[0] = 140  # the step's boundary, while it is under way
        boundary = sampler.read()
        now[0] = 200
        collecting("stop", {})
        now[0] = 300
        last = sampler.read()
        assert (boundary.since(first).gc, last.since(boundary).gc) == (40, 60)
        collecting("stop", {})  # of one that began before the sampler was installed
        assert sampler.read().gc == 100
    finally:
        sampler.remove()
        gc.enable()


def test_long_pauses_are_remembered_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    sampler = UsageSampler(lambda: 0)
    tracker = StepTracker(clock=lambda: now[0], pauses=sampler.pauses_before)
    gc.disable()
    try:
        sampler.install()
        collecting = gc.callbacks[-1]

        def collect(milliseconds: float) -> None:
            collecting("start", {})
            now[0] += int(milliseconds * 1e6)
            collecting("stop", {})

        with tracker.step():
            for milliseconds in (0.5, 30, 0.9, 2, *[1] * 20):
                collect(milliseconds)
        collect(5)  # between two steps: the next one's
        with tracker.step():
            pass
        first, second = (step for step in tracker.take().closed if step.index >= 0)
        assert len(first.pauses) == 16  # the longest
        assert first.pauses[:2] == (("gc", 500_000, 30_000_000), ("gc", 31_400_000, 2_000_000))
        assert [one.duration for one in second.pauses] == [5_000_000]
    finally:
        sampler.remove()
        gc.enable()


def test_a_slow_data_loader_is_a_pause() -> None:
    from torch.utils.data import DataLoader

    class Slow(list[int]):
        def __getitem__(self, place: Any) -> Any:
            time.sleep(0.02)
            return super().__getitem__(place)

    sampler = UsageSampler(lambda: 0)
    sampler.install()
    try:
        since = time.monotonic_ns()
        assert len(list(DataLoader(Slow([1, 2])))) == 2
        pauses = sampler.pauses_before(time.monotonic_ns())
    finally:
        sampler.remove()
    data = [one for one in pauses if one.kind == "data"]
    assert len(data) == 2 and all(one.start >= since and one.duration >= 20_000_000 for one in data)
