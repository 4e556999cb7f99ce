"""What a step used is booked where it was."""

from __future__ import annotations

import time

import pytest

from otel_netmon.capture.usage import UsageSampler


def test_a_collection_across_a_steps_end_counts_in_both_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    meter = UsageSampler(lambda: 0)
    meter._installed = True
    first = meter.read()
    now[0] = 100
    meter._collecting("start", {})
    now[0] = 140  # the step's mark, while it is under way
    mark = meter.read()
    now[0] = 200
    meter._collecting("stop", {})
    now[0] = 300
    last = meter.read()
    assert (mark.since(first).gc, last.since(mark).gc) == (40, 60)
    meter._collecting("stop", {})  # of one that began before we were there
    assert meter.read().gc == 100
