"""The Flight Recorder's dumps: read, refused, and joined to events."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_netmon.capture.device_times import DeviceTimes
from otel_netmon.capture.event import CollectiveEvent, CollectiveKind
from otel_netmon.capture.operations import OPERATIONS
from otel_netmon.flight_recorder import Dump, Entry, FlightRecorderError, load, parse
from otel_netmon.job.groups import Group

REAL = Path(__file__).parents[3] / "shared" / "data" / "flight_recorder"
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "500"))


def entry(**changes: Any) -> dict[str, Any]:
    """As torch 2.9 writes it."""
    return {
        "record_id": 1,
        "pg_id": 5,
        "process_group": ("35", "TENSOR_MODEL_PARALLEL_GROUP"),
        "collective_seq_id": 7,
        "p2p_seq_id": 0,
        "op_id": 7,
        "profiling_name": "nccl:_all_gather_base",
        "time_created_ns": 1758580155801796775,
        "input_sizes": [[2048, 1, 5120]],
        "input_dtypes": ["BFloat16"],
        "output_sizes": [[8192, 1, 5120]],
        "output_dtypes": ["BFloat16"],
        "state": "completed",
        "time_discovered_started_ns": None,
        "time_discovered_completed_ns": 1758580155901796775,
        "retired": True,
        "timeout_ms": 180000,
        "is_p2p": False,
        **changes,
    }


def dump(*entries: Any) -> dict[str, Any]:
    groups = {"5": {"name": "35", "desc": "TENSOR_MODEL_PARALLEL_GROUP", "ranks": "[0, 1, 2, 3]"}}
    return {"version": "2.9", "pg_config": groups, "entries": list(entries)}


@pytest.mark.parametrize("encode", [lambda d: pickle.dumps(d, 2), lambda d: json.dumps(d).encode()])
def test_what_an_entry_says(encode: Any) -> None:
    timed = entry(duration_ms=1.5, profiling_name="nccl:send 0->1", is_p2p=True, p2p_seq_id=3)
    found = parse(encode(dump(entry(), timed)))
    assert found.version == "2.9"
    assert found.ranks == {"35": (0, 1, 2, 3)}
    first, second = found.entries
    assert (first.operation, first.backend, first.sequence) == ("all_gather_into_tensor", "nccl", 7)
    assert first.duration is None
    assert first.discovered_completed == first.created + 100_000_000
    assert (first.input_sizes, first.output_sizes) == (((2048, 1, 5120),), ((8192, 1, 5120),))
    assert (second.operation, second.is_p2p, second.sequence, second.duration) == ("send", True, 3, 0.0015)


FIRST = {  # the entry of torch 2.2, in a list without a version
    "pg_id": 0,
    "seq_id": 7,
    "profiling_name": "nccl:all_reduce",
    "time_created_us": 1758580155801796,
    "input_sizes": [[2048, 1]],
    "output_sizes": [[2048, 1]],
    "state": "started",
    "retired": False,
    "frames": [],
}
SECOND = {key: value for key, value in FIRST.items() if key != "time_created_us"} | {
    "record_id": 3,
    "op_id": 7,
    "time_created_ns": 1758580155801796775,
    "time_discovered_started_ns": 1758580155801796999,
    "time_discovered_completed_ns": None,
}


@pytest.mark.parametrize("encode", [lambda d: pickle.dumps(d, 2), lambda d: json.dumps(d).encode()])
@pytest.mark.parametrize(
    ("version", "plain", "group", "ranks"),
    [
        ("", [FIRST], "0", {}),
        ("1.1", {"version": "1.1", "entries": [FIRST]}, "0", {}),
        ("1.4", {"version": "1.4", "entries": [SECOND], "pg_config": {0: [0, 1]}}, "0", {"0": (0, 1)}),
        (
            "1.5",
            {
                "version": "1.5",
                "entries": [SECOND],
                "pg_config": {"0": {"name": "default", "desc": "", "ranks": "[0, 1]"}},
            },
            "default",
            {"default": (0, 1)},
        ),
        ("2.0", {"version": "2.0", "entries": [{**SECOND, "pg_name": "tp"}]}, "tp", {}),
        ("2.1", {"version": "2.1", "entries": [{**SECOND, "process_group": "tp"}]}, "tp", {}),
        ("", {"entries": [SECOND]}, "0", {}),
    ],
)
def test_older_formats_are_read(encode: Any, version: str, plain: Any, group: str, ranks: Any) -> None:
    found = parse(encode(plain))
    (one,) = found.entries
    assert (found.version, found.ranks, found.unread) == (version, ranks, 0)
    assert (one.group, one.operation, one.sequence, one.is_p2p) == (group, "all_reduce", 7, False)
    assert one.created // 1000 == 1758580155801796
    assert (one.input_sizes, one.dtypes, one.state) == (((2048, 1),), (), "started")


def test_an_older_send_is_no_collective() -> None:
    found = parse(pickle.dumps([{**FIRST, "profiling_name": "nccl:send 0->1"}, FIRST]))
    assert [(one.operation, one.is_p2p) for one in found.entries] == [("send", True), ("all_reduce", False)]


@pytest.mark.parametrize("encode", [lambda d: pickle.dumps(d, 2), lambda d: json.dumps(d).encode()])
@pytest.mark.parametrize(
    "bad",
    [
        None,
        "entry",
        {},
        entry(collective_seq_id="many"),
        entry(process_group=("35",)),
        entry(process_group=5),
        entry(time_created_ns="yesterday"),
        entry(input_sizes=7),
        entry(input_sizes=[[1] * 1000]),
        entry(duration_ms="long"),
        {key: value for key, value in entry().items() if key != "profiling_name"},
        {key: value for key, value in entry().items() if key not in ("time_created_ns", "collective_seq_id")},
    ],
)
def test_a_bad_entry_is_counted_and_the_rest_is_read(encode: Any, bad: Any) -> None:
    found = parse(encode(dump(entry(), bad, entry(collective_seq_id=8))))
    assert [one.sequence for one in found.entries] == [7, 8]
    assert found.unread == 1


def test_a_bad_group_is_counted_and_the_rest_is_read() -> None:
    plain = dump(entry())
    plain["pg_config"] |= {"6": {"name": "36"}, "7": {"name": "37", "ranks": "[0, 1"}, "8": None}
    found = parse(json.dumps(plain).encode())
    assert (found.ranks, found.unread, len(found.entries)) == ({"35": (0, 1, 2, 3)}, 3, 1)
    assert parse(json.dumps({**plain, "pg_config": "none"}).encode()).ranks == {}


def test_what_is_optional_may_be_missing() -> None:
    needed = ("process_group", "collective_seq_id", "profiling_name", "time_created_ns")
    (one,) = parse(json.dumps(dump({key: entry()[key] for key in needed})).encode()).entries
    assert (one.number, one.state, one.retired, one.input_sizes, one.dtypes) == (None, "", False, (), ())
    (flat,) = parse(json.dumps(dump(entry(input_sizes=[2048, 5120]))).encode()).entries
    assert flat.input_sizes == ((2048, 5120),)


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("exit 1",)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        pickle.dumps(Evil()),
        pickle.dumps(dump({"process_group": Evil()})),
        pickle.dumps([1, 2]),
        pickle.dumps(dump(entry(input_sizes=[[1] * 1000]))),
        pickle.dumps(dump(entry(collective_seq_id="many"))),
        b"\x80\x02]r\xff\xff\xff\x7f.",  # a memo index of two thousand million
        b"\x80\x02" + b"(" * 100_000,
        b"[" * 100_000,
        b'{"entries":' + b"[" * 100_000,
        b"{}",
        b'{"name": "no dump"}',
        b"[1, 2]",
        b'{"version": "2.9", "entries": [{}, {}]}',
    ],
)
def test_what_is_no_dump_is_refused_by_name(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "hostile"
    file.write_bytes(data)
    with pytest.raises(FlightRecorderError, match="hostile"):
        load(file)


@given(st.binary(max_size=300))
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_bytes_give_a_dump_or_the_one_error(data: bytes) -> None:
    with contextlib.suppress(FlightRecorderError):
        parse(data)


@given(st.data())
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_damage_gives_a_dump_or_the_one_error(data: st.DataObject) -> None:
    whole = bytearray(pickle.dumps(dump(entry(), entry(duration_ms=2)), 2))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(FlightRecorderError):
        parse(bytes(whole[: data.draw(st.integers(0, len(whole)))]))


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the recorded dumps in ../shared/data/flight_recorder")
@pytest.mark.parametrize("folder", ["gpu_error_2nd", "lock_gil_1st"])
def test_real_dumps_of_16_ranks(folder: str) -> None:
    dumps = {int(file.name): load(file) for file in (REAL / folder).iterdir() if file.name.isdigit()}
    assert sorted(dumps) == list(range(16))
    for one in dumps.values():
        assert one.version == "2.9"
        numbers: defaultdict[str, list[int]] = defaultdict(list)
        for each in one.entries:
            assert each.group in one.ranks
            assert each.backend == "nccl"
            assert each.duration is None  # timing was off
            if not each.is_p2p:
                numbers[each.group].append(each.sequence)
        for sequences in numbers.values():
            assert sequences == sorted(sequences)
    operations = {each.operation for one in dumps.values() for each in one.entries}
    known = {operation.name for operation in OPERATIONS.values()}
    assert operations <= known, operations - known


class Device:
    """Events of a device and what the recorder has of them, with one clock for both."""

    def __init__(self) -> None:
        self.group = Group("7", 4, 0, "gloo")
        self.group.device_backend = "nccl"
        self.recorded: list[Entry] = []
        self.now = 0
        self.times = DeviceTimes(lambda _backend: Dump("", {}, tuple(self.recorded)), clock=lambda: self.now)
        self.epoch = time.time_ns()  # the clock begins at 0

    def event(self, sequence: int, operation: str = "allreduce_") -> CollectiveEvent:
        start = sequence * 1_000_000_000
        event = CollectiveEvent(
            CollectiveKind(OPERATIONS[operation], self.group, 4096, on_host=False), start, 0, sequence
        )
        event.end = start + 10_000
        return event

    def record(self, event: CollectiveEvent, ahead: int = 0, operation: str | None = None, **changes: Any) -> None:
        fields = {
            "process_group": ("7", ""),
            "collective_seq_id": (event.sequence or 0) + ahead,
            "profiling_name": "nccl:" + (operation or event.operation.name),
            "time_created_ns": event.start + self.epoch + 1000,
            "time_discovered_completed_ns": None,
        }
        self.recorded += parse(json.dumps(dump(entry(**{**fields, **changes}))).encode()).entries


def test_a_timed_collective_has_its_time_on_the_device() -> None:
    device = Device()
    event = device.event(1)
    assert event.duration is None  # the host's call is no transfer
    assert device.times.pass_through([event]) == []
    device.record(event, duration_ms=2.0)
    assert device.times.pass_through([]) == [event]
    assert event.duration == 2_000_000


def test_a_discovered_end_is_a_bound_only() -> None:
    device = Device()
    event = device.event(1)
    device.record(event, time_discovered_completed_ns=event.start + device.epoch + 5_001_000)
    assert device.times.pass_through([event]) == [event]
    assert (event.duration, event.device_bound) == (None, 5_000_000)


def test_what_does_not_fit_is_not_joined() -> None:
    device = Device()
    event = device.event(1)
    device.record(event, duration_ms=2.0, operation="broadcast")
    assert device.times.pass_through([event]) == []
    assert device.times.pass_through([], last=True) == [event]
    assert event.duration is None


def test_old_entries_are_not_taken_for_new_calls() -> None:
    device = Device()
    event, old = device.event(1), device.event(1)
    old.start -= 900_000_000
    device.record(old, duration_ms=2.0)
    assert device.times.pass_through([event], last=True) == [event]
    assert event.duration is None


def test_switched_on_late_the_counts_differ_by_an_offset() -> None:
    device = Device()
    operations = ["allreduce_", "broadcast_", "allreduce_", "barrier"]
    events = [device.event(i + 1, operation) for i, operation in enumerate(operations)]
    for event in events:
        device.record(event, ahead=500, duration_ms=1.0)
    assert device.times.pass_through(events) == events
    assert all(event.duration == 1_000_000 for event in events)


def test_nothing_is_held_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device()
    event = device.event(1)
    assert device.times.pass_through([event]) == []
    assert device.times.boundaries() == [0]
    device.now = 20_000_000_000
    assert device.times.pass_through([]) == [event]
    monkeypatch.setenv("TORCH_FR_BUFFER_SIZE", "0")
    assert device.times.pass_through([device.event(2)]) != []  # the recorder is off


def test_a_recorder_that_raises_costs_the_times_only(caplog: pytest.LogCaptureFixture) -> None:
    def broken(_backend: str) -> Any:
        raise RuntimeError("no such recorder")

    times = DeviceTimes(broken)
    event = Device().event(1)
    event.start = time.monotonic_ns()
    times.pass_through([event])
    times.pass_through([])
    assert times.pass_through([], last=True) == [event]
    assert len(caplog.records) == 1
