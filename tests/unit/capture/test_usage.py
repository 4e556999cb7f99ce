"""What a step used is booked where it was."""

from __future__ import annotations

import gc
import time

import pytest

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
