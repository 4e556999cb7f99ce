"""Calls in flight on the native backend: seen at any time, by whom that may be, and ended by whoever ends them."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_netmon.capture.backends.native import NativeBackend
from otel_netmon.capture.native import loader
from tests.unit.capture.a_backend import Captured, Pair, built

torch: Any = pytest.importorskip("torch", reason="pip install torch")
dist: Any = torch.distributed

pytestmark = built()


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
