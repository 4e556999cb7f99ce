"""The native backend: what it records is what the Python hooks record, within bounds, and it comes off again."""

from __future__ import annotations

import datetime
import importlib
import time
from typing import Any

import pytest

from otel_netmon.capture.backends.hooks import HooksBackend
from otel_netmon.capture.backends.native import NativeBackend
from otel_netmon.capture.event import CollectiveEvent
from otel_netmon.capture.native import loader
from otel_netmon.job.groups import Group, Groups
from otel_netmon.job.job import SharedCount
from tests.unit.capture.a_backend import Captured, built

torch: Any = pytest.importorskip("torch", reason="pip install torch")
dist: Any = torch.distributed

pytestmark = built()


def calls() -> int:
    """Of all kinds that one rank can make; how many."""
    one, many = torch.ones(4), torch.ones(6, dtype=torch.float64)
    dist.all_reduce(one)
    dist.all_reduce(many, async_op=True).wait()
    dist.all_reduce_coalesced([one, torch.ones(2)])
    dist.all_reduce(torch.eye(3).to_sparse_coo())
    dist.broadcast(one.to(torch.bfloat16), 0)
    dist.reduce(one, 0)
    dist.all_gather([torch.empty(4)], one)
    dist.all_gather_into_tensor(torch.empty(4), one)
    dist.reduce_scatter(torch.empty(4), [one])
    dist.reduce_scatter_tensor(torch.empty(4), one)
    dist.all_to_all_single(torch.empty(4), one)
    dist.gather(one, [torch.empty(4)], 0)
    dist.scatter(torch.empty(4), [one], 0)
    dist.barrier()
    return 14


def described(events: list[CollectiveEvent]) -> list[tuple[Any, ...]]:
    ordered = sorted(events, key=lambda event: event.sequence or 0)
    return [
        (e.operation, e.kind.dtype, e.size, e.is_async, e.kind.is_even, e.on_host, e.sequence) for e in ordered
    ]


@pytest.mark.filterwarnings("ignore:.*torch.distributed.*:FutureWarning")
def test_it_records_what_the_python_hooks_record(group: Any) -> None:
    found = []
    for cls in (HooksBackend, NativeBackend):
        captured = Captured(cls)
        count = calls()
        found.append(described(captured.ended(count)))
        captured.close()
        assert not captured.recorder.errors
    assert found[0] == found[1]
    assert [row[-1] for row in found[0]] == list(range(1, count + 1))


def test_an_event_lies_within_its_call(native: Captured) -> None:
    before = time.monotonic_ns()
    dist.all_reduce(torch.ones(4))
    after = time.monotonic_ns()
    (event,) = native.ended(1)
    assert event.end is not None and before <= event.start < event.end <= after
    assert (event.error, event.is_late, event.is_unseen, event.boundary) == (None, False, False, 0)


def test_the_step_boundary_is_that_of_the_tracker(native: Captured) -> None:
    for _ in range(2):
        native.steps.constructed()
    dist.all_reduce(torch.ones(4))
    assert native.ended(1)[0].boundary == native.steps.boundaries == 2


def test_a_full_ring_drops_the_oldest_counts_and_sums_up(group: Any) -> None:
    captured = Captured(NativeBackend, capacity=16)
    for _ in range(100):
        dist.all_reduce(torch.ones(4))
    assert [event.sequence for event in captured.ended(16)] == list(range(85, 101))
    assert captured.ring.overwritten == 84
    ((key, histograms),) = captured.ring.aggregator.take().items()
    assert (key.operation.name, key.on_host, key.error) == ("all_reduce", True, None)
    assert sum(histograms.seconds.counts) == 84 and sum(histograms.seconds.sums) > 0
    assert (histograms.sizes.least, histograms.sizes.greatest, sum(histograms.sizes.sums)) == (16, 16, 84 * 16)
    captured.close()


def test_numbers_go_on_from_python_to_native_and_back(group: Any) -> None:
    groups = Groups(lambda _, ours: setattr(ours, "begun", shared))
    shared, ours = SharedCount(), groups.of(group)
    assert [ours.next_sequence() for _ in range(2)] == [1, 2]
    captured = Captured(NativeBackend, groups=groups)
    for _ in range(3):
        dist.all_reduce(torch.ones(2))
    assert ours.next_sequence() == 6 and shared.last() == 6
    dist.all_reduce(torch.ones(2))
    assert [event.sequence for event in captured.ended(4)] == [3, 4, 5, 7]
    captured.close()
    assert ours.next_sequence() == 8 and shared.last() == 8
    assert isinstance(ours, Group)


def test_a_call_that_raises_is_closed_by_the_next_one(native: Captured) -> None:
    for _ in range(2):
        with pytest.raises(Exception, match=r"output tensor|size"):
            dist.all_gather_into_tensor(torch.ones(3), torch.ones(4))
    (event,) = native.ended(1)
    assert (event.operation.name, event.error, event.is_late, event.end) == (
        "all_gather_into_tensor",
        "_OTHER",
        True,
        event.start,
    )
    assert len(native.ring.in_flight()) == 1
    native.backend.close_failed_calls()
    assert native.ended(1)[0].error == "_OTHER" and not native.ring.in_flight()


def test_the_failure_is_that_of_the_future(native: Captured) -> None:
    with pytest.raises(RuntimeError):
        dist.all_reduce(torch.ones(4), op=dist.ReduceOp.BAND)
    (event,) = native.ended(1)
    assert event.error == "RuntimeError" and "BAND" in (event.error_message or "").upper()
    native.ring.keeps_messages = False
    with pytest.raises(RuntimeError):
        dist.all_reduce(torch.ones(4), op=dist.ReduceOp.BAND)
    (event,) = native.ended(1)
    assert event.error == "RuntimeError" and event.error_message is None


def test_error_names_are_those_of_classes() -> None:
    for name in loader.load().ERRORS[2:]:
        module, _, cls = name.rpartition(".")
        found = getattr(importlib.import_module(module or "builtins"), cls)
        assert issubclass(found, Exception) and found.__qualname__ == cls


def test_wait_does_what_torchs_own_does_and_is_put_back(group: Any) -> None:
    theirs = vars(dist.Work)["wait"]
    captured = Captured(NativeBackend)
    ours = vars(dist.Work)["wait"]
    assert ours is not theirs and ours.__doc__.strip() == theirs.__doc__.strip()
    work = dist.all_reduce(torch.ones(4), async_op=True)
    assert work.wait(timeout=datetime.timedelta(seconds=5)) is True and work.wait() is True
    with pytest.raises(TypeError):
        work.wait("soon")
    captured.close()
    assert vars(dist.Work)["wait"] is theirs
    dist.all_reduce(torch.ones(4))
    assert len(captured.ring.drain()) == 1


def test_removed_hooks_record_nothing(group: Any) -> None:
    captured = Captured(NativeBackend)
    captured.close()
    dist.all_reduce(torch.ones(4))
    again = Captured(NativeBackend)
    dist.all_reduce(torch.ones(4))
    assert [event.sequence for event in again.ended(1)] == [1]
    again.close()
