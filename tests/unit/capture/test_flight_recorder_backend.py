"""Looking into the Flight Recorder: each entry once, and what it overwrote or garbled counted."""

from __future__ import annotations

import json
import math
import threading
import time
from typing import Any

import pytest

from otel_netmon.capture.backends import flight_recorder
from otel_netmon.capture.backends.flight_recorder import FlightRecorderBackend
from otel_netmon.capture.event import CollectiveEvent
from otel_netmon.capture.recorder import Recorder
from otel_netmon.capture.ring import EventRing
from otel_netmon.capture.steps import StepTracker
from otel_netmon.flight_recorder import dump_of
from otel_netmon.job.groups import Groups

pytest.importorskip("torch.distributed")


class Recorded:
    """A recorder of some entries, and the backend that looks into it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, size: int = 1000) -> None:
        self.entries: list[dict[str, Any]] = []
        self.size = size
        self.number = 0
        self.ring = EventRing(10_000)
        self.recorder = Recorder(self.ring, StepTracker())
        self.backend = FlightRecorderBackend(self.recorder, Groups())
        monkeypatch.setattr(flight_recorder, "own_dump", self.dump)

    def dump(self, backend: str) -> Any:
        plain = {"version": "2.10", "entries": self.entries}
        return dump_of(json.loads(json.dumps(plain))) if backend == "gloo" else None

    def call(self, count: int = 1, **changes: Any) -> None:
        for _ in range(count):
            self.entries.append(
                {
                    "record_id": self.number,
                    "process_group": ("7", "default_pg"),
                    "collective_seq_id": self.number + 1,
                    "profiling_name": "gloo:all_reduce",
                    "time_created_ns": time.time_ns(),
                    "input_sizes": [[4]],
                    "input_dtypes": ["Float"],
                    "state": "scheduled",
                    "retired": True,
                    **changes,
                }
            )
            self.number += 1
        del self.entries[: -self.size]

    def look(self) -> list[CollectiveEvent]:
        self.backend.groups_closing()
        return self.ring.drain()

    def lost(self) -> tuple[int, int]:
        return self.ring.overwritten, self.recorder.errors


def test_each_entry_is_taken_once_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = Recorded(monkeypatch, size=20_000)
    found: list[Any] = []
    for _ in range(4):
        recorded.call(3000)
        found += recorded.look()
    assert [event.sequence for event in found] == list(range(1, 12_001))
    assert recorded.look() == [] and recorded.lost() == (0, 0)
    event = found[0]
    assert (event.group.name, event.group.backend, event.size, event.is_late) == ("7", "gloo", 16, True)


def test_what_was_overwritten_between_two_looks_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = Recorded(monkeypatch, size=100)
    recorded.call(130)
    assert len(recorded.look()) == 100 and recorded.lost() == (30, 0)
    recorded.call(50)
    assert len(recorded.look()) == 50 and recorded.lost() == (30, 0)
    recorded.call(250)
    assert len(recorded.look()) == 100 and recorded.lost() == (180, 0)


def test_what_cannot_be_read_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = Recorded(monkeypatch)
    recorded.call(2)
    recorded.call(1, collective_seq_id="many")
    recorded.call(1, profiling_name="gloo:all_at_once")  # an operation of a torch to come
    recorded.call(1, profiling_name="nccl:coalesced")  # its parts have entries of their own
    recorded.call(2)
    assert len(recorded.look()) == 4
    assert recorded.look() == [] and recorded.lost() == (0, 2)


def test_what_ends_later_is_one_event_and_what_is_overwritten_does_not_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorded = Recorded(monkeypatch, size=100)
    recorded.call(2, retired=False)
    assert recorded.look() == [] and len(recorded.ring.in_flight()) == 2
    recorded.entries[0]["retired"] = True
    (ended,) = recorded.look()
    assert ended.sequence == 1
    recorded.call(100)
    first, *rest = recorded.look()
    assert (first.sequence, first.is_late, len(rest)) == (2, True, 100)
    assert recorded.ring.in_flight() == [] and recorded.lost() == (0, 0)


def test_what_is_in_flight_is_known_up_to_the_last_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """None is made for a while after one that took long: what did not end then may have ended since."""
    recorded = Recorded(monkeypatch)
    recorded.call(1, retired=False)
    before = time.monotonic_ns()
    assert recorded.look() == []
    after = time.monotonic_ns()
    monkeypatch.setattr(recorded.backend, "_not_before", math.inf)
    recorded.backend.poll()
    assert before <= recorded.backend.known_until <= after and len(recorded.ring.in_flight()) == 1


def test_a_recorder_that_was_reset_counts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = Recorded(monkeypatch)
    recorded.call(50)
    assert len(recorded.look()) == 50
    recorded.number, recorded.entries = 0, []
    recorded.call(10)
    assert len(recorded.look()) == 10 and recorded.lost() == (0, 0)


def test_groups_of_one_name_are_told_apart_by_when_they_were_there(monkeypatch: pytest.MonkeyPatch) -> None:
    class Made:
        group_name = "7"

        def __init__(self, size: int) -> None:
            self._size = size

        def size(self) -> int:
            return self._size

        def rank(self) -> int:
            return 0

        def name(self) -> str:
            return "gloo"

    recorded = Recorded(monkeypatch)
    groups = [Made(2), Made(3)]
    for group in groups:
        recorded.backend.group_created(group)
        recorded.call(5)
    assert [event.group.size for event in recorded.look()] == [2] * 5 + [3] * 5
    recorded.call(1, process_group=("gone", ""))  # nobody saw it registered: its size is not known
    (event,) = recorded.look()
    assert (event.group.name, event.group.size, event.group.rank) == ("gone", 0, -1)


def test_polls_of_two_threads_take_each_entry_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One from the background, which has read the recorder already, and one where the groups are destroyed."""
    recorded = Recorded(monkeypatch)
    recorded.call(5)
    has_read, go_on = threading.Event(), threading.Event()

    def dump(backend: str) -> Any:
        found = recorded.dump(backend)
        if backend == "gloo" and not has_read.is_set():
            has_read.set()
            go_on.wait(0.5)
        return found

    monkeypatch.setattr(flight_recorder, "own_dump", dump)
    background = threading.Thread(target=recorded.backend.poll)
    background.start()
    has_read.wait(10)
    recorded.call(5)
    recorded.backend.groups_closing()
    go_on.set()
    background.join(10)
    assert [event.sequence for event in recorded.ring.drain()] == list(range(1, 11))


def test_a_recorder_that_is_off_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    recorded = Recorded(monkeypatch)
    monkeypatch.setenv("TORCH_FR_BUFFER_SIZE", "0")
    recorded.backend.install()
    recorded.backend.remove()
    assert "the recorder is off" in caplog.text


def test_a_look_that_takes_long_is_followed_by_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """A big recorder takes long to read, under the interpreter's lock."""
    recorded = Recorded(monkeypatch)
    now, looks = [100.0], []

    def dump(backend: str) -> None:
        if backend == "gloo":
            looks.append(now[0])
            now[0] += 0.5

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(flight_recorder, "own_dump", dump)
    recorded.backend.install()
    for _ in range(100):
        recorded.backend.poll()
        now[0] += 0.1
    assert 2 <= len(looks) <= 4
    recorded.backend.groups_closing()  # in any case
    assert looks[-1] == pytest.approx(now[0] - 0.5)
