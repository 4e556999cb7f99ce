"""The collectives that Python records, as the black box has them: what would be read if the process died now."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: make test installs it")

from otel_netmon.black_box import layout
from otel_netmon.black_box.box import Box
from otel_netmon.capture.event import Failure
from otel_netmon.capture.last_calls import Cells
from otel_netmon.capture.operations import OPERATIONS
from otel_netmon.capture.recorder import Recorder
from otel_netmon.capture.ring import EventRing
from otel_netmon.capture.steps import StepTracker
from otel_netmon.endings import LastCall
from otel_netmon.job.groups import Group

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ranks are watched on Linux only")

ALL_REDUCE, SEND = OPERATIONS["allreduce_"], OPERATIONS["send"]


class Rank:
    """A recorder with a box, and what is in that."""

    def __init__(self, folder: Path) -> None:
        self.box = Box(folder, [operation.name for operation in OPERATIONS.values()])
        self.recorder = Recorder(EventRing(1000), StepTracker())
        self.recorder.cells = Cells(self.box)
        self.groups = [Group(str(number), 2, 0, "gloo") for number in range(100)]

    def calls(self) -> tuple[LastCall, ...]:
        found = layout.read(self.box.memory[:])
        assert found is not None
        return found.calls


@pytest.fixture
def rank(tmp_path: Path) -> Rank:
    return Rank(tmp_path)


def test_a_call_is_there_when_it_begins_and_its_end_when_it_is_drained(rank: Rank) -> None:
    recorder, cells = rank.recorder, rank.recorder.cells
    assert cells is not None
    kind = recorder.kind_of(ALL_REDUCE, rank.groups[3], None, (), False, True)
    first, second = (recorder.started(kind, 10**9 + at, at) for at in (1, 2))
    assert first is not None and second is not None
    assert [call[:4] for call in rank.calls()] == [("all_reduce", "3", 1, 0), ("all_reduce", "3", 2, 0)]
    assert [call.duration for call in rank.calls()] == [None, None]
    recorder.ring.finish(first, 10**9 + 5001)
    recorder.ring.finish(second, 10**9 + 7002, Failure("RuntimeError"))
    cells.ended(recorder.ring.drain())
    assert [(call.duration, call.error) for call in rank.calls()] == [(5, None), (7, "_OTHER")]


def test_the_last_ones_stay_and_no_end_goes_to_another(rank: Rank) -> None:
    recorder, cells = rank.recorder, rank.recorder.cells
    assert cells is not None
    kind = recorder.kind_of(SEND, rank.groups[0], None, (), False, True)
    first = recorder.started(kind, 10**9, None)
    assert first is not None
    for at in range(1, layout.CALLS + 1):
        recorder.started(kind, 10**9 + at, None)
    recorder.ring.finish(first, 2 * 10**9)
    cells.ended(recorder.ring.drain())
    found = rank.calls()
    assert len(found) == layout.CALLS and all(call.duration is None and call.sequence is None for call in found)
    assert {call.operation for call in found} == {"send"}


def test_more_groups_than_there_is_room_for(rank: Rank) -> None:
    """Calls of a group whose name is gone are left out, not given to another; the first groups keep theirs."""
    recorder = rank.recorder
    for number, group in enumerate(rank.groups):
        kind = recorder.kind_of(ALL_REDUCE, group, None, (), False, True)
        recorder.started(kind, 10**9 + number, number + 1)
    recorder.started(recorder.kind_of(ALL_REDUCE, rank.groups[0], None, (), False, True), 2 * 10**9, 500)
    found = rank.calls()
    assert all(call.sequence == int(call.group) + 1 for call in found[:-1])
    assert (found[-1].group, found[-1].sequence) == ("0", 500) and len(found) > layout.MOST_GROUPS // 2
