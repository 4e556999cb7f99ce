"""The native backend: what it records is what the Python hooks record, within bounds, and it comes off again."""

from __future__ import annotations

import ctypes
import datetime
import gc
import importlib
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from otel_netmon.capture.backends.hooks import HooksBackend
from otel_netmon.capture.backends.native import NativeBackend
from otel_netmon.capture.event import CollectiveEvent
from otel_netmon.capture.native import loader
from otel_netmon.capture.recorder import Recorder
from otel_netmon.capture.ring import EventRing
from otel_netmon.capture.steps import StepTracker
from otel_netmon.job.groups import Group, Groups
from otel_netmon.job.job import SharedCount

torch: Any = pytest.importorskip("torch", reason="pip install torch")
dist: Any = torch.distributed

pytestmark = pytest.mark.skipif(loader.find() is None, reason="make native VENV=.venv214 TORCH=torch==2.14.1")


class Captured:
    """A backend by itself, from its making to ``close``."""

    def __init__(self, cls: Any, capacity: int = 100, groups: Groups | None = None) -> None:
        self.ring = EventRing(capacity)
        self.steps = StepTracker()
        self.recorder = Recorder(self.ring, self.steps)
        self.groups = groups or Groups()
        self.backend = cls(self.recorder, self.groups)
        self.backend.install()

    def close(self) -> None:
        self.backend.close_failed_calls()
        self.backend.remove()
        self.ring.abandon()

    def ended(self, count: int) -> list[CollectiveEvent]:
        """Once that many have; completions come from gloo's threads."""
        events: list[CollectiveEvent] = []
        deadline = time.monotonic() + 10
        while len(events) < count and time.monotonic() < deadline:
            events += self.ring.drain()
        assert len(events) == count
        return events


@pytest.fixture
def group() -> Iterator[Any]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield dist.group.WORLD
    dist.destroy_process_group()


@pytest.fixture
def native(group: Any) -> Iterator[Captured]:
    captured = Captured(NativeBackend)
    yield captured
    captured.close()


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


class Pair:
    """A group of two ranks, both in this process: a call on ``first`` ends when ``second`` makes it too."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        store = dist.HashStore()
        with ThreadPoolExecutor(2) as pool:  # they wait for each other
            self.first, self.second = pool.map(lambda rank: self._group(store, rank), range(2))

    def _group(self, store: Any, rank: int) -> Any:
        group, kind = dist.ProcessGroup(store, rank, 2), dist.ProcessGroup.BackendType.GLOO
        backend = dist.ProcessGroupGloo(store, rank, 2, datetime.timedelta(seconds=60))
        group._register_backend(torch.device("cpu"), kind, backend)
        group._set_default_backend(kind)
        return group

    def begin(self, count: int = 8) -> Any:
        self.begun.append(count)
        return self.first.allreduce([torch.ones(count)])

    def end(self) -> None:
        """End the oldest that has not."""
        self.second.allreduce([torch.ones(self.begun.pop(0))]).wait()


@pytest.fixture
def pair(native: Captured) -> Iterator[Pair]:
    made = Pair()
    native.backend.group_created(made.first)
    yield made
    while made.begun:  # or the group waits for them when it is destroyed
        made.end()


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
    assert native.ended(1)[0].error == "RuntimeError"


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


def test_the_main_threads_waits_are_timed(native: Captured, pair: Pair) -> None:
    work = pair.begin()
    timer = threading.Timer(0.1, pair.end)
    timer.start()
    work.wait()
    timer.join()
    assert 50e6 < native.backend.blocked < 1e9  # not those of the timer's thread


def test_what_is_in_flight_is_the_same_object_when_it_has_ended(native: Captured, pair: Pair) -> None:
    pair.begin()
    (seen,) = native.ring.in_flight()
    assert (seen.operation.name, seen.size, seen.end) == ("all_reduce", 32, None)
    assert native.ring.active().total() == 1
    pair.end()
    (event,) = native.ended(1)
    assert event is seen and event.end is not None and not native.ring.in_flight()


def test_what_was_abandoned_does_not_end(native: Captured, pair: Pair) -> None:
    work = pair.begin()
    (abandoned,) = native.ring.abandon()
    pair.end()
    work.wait()
    assert abandoned.end is None and native.ring.drain() == native.ring.in_flight() == []


def test_what_was_seen_in_flight_and_overwritten_is_let_go_of(group: Any) -> None:
    captured, pair = Captured(NativeBackend, capacity=16), Pair()
    captured.backend.group_created(pair.first)
    pair.begin()
    captured.ring.in_flight()
    pair.end()
    while captured.ring.in_flight():
        time.sleep(0.001)
    for _ in range(20):
        dist.all_reduce(torch.ones(4))
    assert len(captured.backend._source._seen) == 1
    for _ in range(2):
        captured.ring.drain()
    assert not captured.backend._source._seen
    captured.close()


READER = """
#include <pthread.h>
#include <stddef.h>
typedef size_t (*reader)(void*, size_t);
static reader read_all;
static void* run(void* records) { return (void*)read_all(records, 16); }
size_t from_another_thread(reader one, void* records) {
  pthread_t thread; void* count = 0;
  read_all = one;
  pthread_create(&thread, 0, run, records);
  pthread_join(thread, &count);
  return (size_t)count;
}
"""


def test_calls_in_flight_are_read_while_the_interpreter_is_busy(pair: Pair, tmp_path: Path) -> None:
    """The reader is a thread that Python does not know, and it is waited for with the interpreter lock held."""
    source, library = tmp_path / "reader.c", tmp_path / "reader.so"
    source.write_text(READER)
    subprocess.run(["cc", "-shared", "-fPIC", "-pthread", "-o", library, source], check=True)
    pair.begin(1)
    pair.begin(2)
    busy = ctypes.PyDLL(str(library)).from_another_thread  # PyDLL: keeps the lock
    busy.restype = ctypes.c_size_t
    records = ctypes.create_string_buffer(16 * 64)
    path = loader.find()
    assert path is not None
    count = busy(ctypes.CDLL(str(path)).otel_netmon_in_flight, records)
    found = list(loader.RECORD.iter_unpack(records.raw[: count * 64]))
    assert [record[3] for record in found] == [1, 2] and {record[2] for record in found} == {0}


def in_a_child(check: Callable[[], bool]) -> bool:
    child = os.fork()
    if child == 0:
        os._exit(0 if check() else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_forked_child_begins_empty(native: Captured, pair: Pair) -> None:
    dist.all_reduce(torch.ones(4))
    pair.begin()
    ring = native.ring
    assert in_a_child(lambda: ring.in_flight() == ring.drain() == [] and ring.overwritten == 0)
    assert in_a_child(lambda: bool(pair.first.allreduce([torch.ones(8)])) and len(ring.in_flight()) == 1)
    assert len(native.ended(1)) == len(ring.in_flight()) == 1


def test_groups_come_and_go_and_nothing_keeps_them(native: Captured) -> None:
    for _ in range(20):
        made = Pair()
        native.backend.group_created(made.first)
        made.begin()
        made.end()
        del made
    gc.collect()
    kept = [torchs for torchs, _ in native.backend._numbered.values() if torchs() is not None]
    assert len(kept) == 1
    assert len({event.group for event in native.ended(20)}) == 20


def test_removed_hooks_record_nothing(group: Any) -> None:
    captured = Captured(NativeBackend)
    captured.close()
    dist.all_reduce(torch.ones(4))
    again = Captured(NativeBackend)
    dist.all_reduce(torch.ones(4))
    assert [event.sequence for event in again.ended(1)] == [1]
    again.close()
