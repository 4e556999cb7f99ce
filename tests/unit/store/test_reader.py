"""Files that cannot be trusted are read without an exception, and what is lost is counted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_netmon import schema, semconv
from otel_netmon.analysis.summary import summarise
from otel_netmon.records import (
    Call,
    Collective,
    GroupUse,
    Heartbeat,
    HostSample,
    HostTraffic,
    InFlight,
    Pause,
    PeerTraffic,
    RankStep,
    Sequence,
)
from otel_netmon.report.blocks import blocks, plain
from otel_netmon.store import files
from otel_netmon.store.files import telemetry_files
from otel_netmon.store.problems import Problems
from otel_netmon.store.reader import Known, read

SPAN = {
    "traceId": "0" * 31 + "1",
    "name": "all_reduce",
    "startTimeUnixNano": "1",
    "endTimeUnixNano": "5",
    "attributes": [
        {"key": "torch.distributed.collective.name", "value": {"stringValue": "all_reduce"}},
        {"key": "torch.distributed.rank", "value": {"intValue": "3"}},
        {"key": "torch.distributed.group.size", "value": {"intValue": 4}},
        {"key": "torch.distributed.collective.sequence", "value": {"intValue": "9"}},
        {"key": "torch.distributed.collective.size", "value": {"intValue": "64"}},
        {"key": "torch.distributed.collective.algbw", "value": {"doubleValue": 1.5}},
        {"key": "list", "value": {"arrayValue": {"values": [{"intValue": "1"}]}}},
    ],
}
POINT = {"attributes": [], "timeUnixNano": "7", "asInt": "5"}


EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "150"))


def message(span: Any = SPAN, point: Any = POINT) -> dict[str, Any]:
    resource = {"attributes": [{"key": "host.name", "value": {"stringValue": "h"}}]}
    metric = {"name": "system.network.io", "sum": {"dataPoints": [point], "aggregationTemporality": 2}}
    return {
        "resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [span]}]}],
        "resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}],
    }


def pairs(record: Any, **more: int) -> list[dict[str, Any]]:
    """A record's attributes in OTLP JSON."""
    kinds = {str: "stringValue", int: "intValue", float: "doubleValue", bool: "boolValue"}
    about = {**schema.attributes(record), **more}
    return [{"key": str(key), "value": {kinds[type(value)]: value}} for key, value in about.items()]


STEP = RankStep(
    "rank_step",
    "run",
    step=3,
    sampled=False,
    collective_count=2,
    groups=(GroupUse("0", 2, 64, 9, 7, 2),),
    calls=(Call("all_reduce", "0", 1, 4), Call("all_reduce", "0", 3, None)),
    pauses=(Pause("gc", 5, 6),),
)
TRAFFIC = PeerTraffic(1, "h", 0.5, 2, 3, 4, 5, 6, 7.0, 8.0, 9.0, 1.0, 0.5, 0.0, 9, 8, 7, 6, 5)
HANGING = InFlight("all_reduce", "0", 7, 64, 1.5)
BEAT = Heartbeat("run", 3, sequences=(Sequence("0", 7),), in_flight=(HANGING,))
HISTOGRAM = {
    "attributes": [],
    "startTimeUnixNano": "1",
    "timeUnixNano": "7",
    "count": "3",
    "sum": 1.5,
    "explicitBounds": [1.0, 2.0],
    "bucketCounts": ["1", "2", "0"],
}


def full_message() -> Any:
    """One of everything that is read."""
    found = message()
    events = [{"name": semconv.EVENT_TCP_PEER, "timeUnixNano": "4", "attributes": pairs(TRAFFIC)}]
    span = {**SPAN, "name": "rank_step", "spanId": "a" * 16, "attributes": pairs(STEP), "events": events}
    found["resourceSpans"][0]["scopeSpans"][0]["spans"].append(span)
    data = {"dataPoints": [HISTOGRAM], "aggregationTemporality": 1}
    found["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].append({"name": "h", "histogram": data})
    logs = [
        {"eventName": event, "timeUnixNano": "9", "traceId": "b" * 32, "spanId": "c" * 16, "attributes": about}
        for event, about in (
            (semconv.EVENT_OF_PERIOD["rank_step"], pairs(STEP, **{semconv.STEP_START: 5})),
            (semconv.EVENT_TCP_PEER, pairs(TRAFFIC)),
            (semconv.EVENT_STALLED, pairs(HANGING)),
            (semconv.EVENT_HEARTBEAT, pairs(BEAT)),
        )
    ]
    return {**found, "resourceLogs": [{"scopeLogs": [{"logRecords": logs}]}]}


def test_all_that_is_read(tmp_path: Path) -> None:
    records, problems = read_bytes(tmp_path, json.dumps(full_message()).encode())
    assert problems == Problems()
    kinds = [Collective, RankStep, PeerTraffic, RankStep, PeerTraffic, InFlight, Heartbeat, HostSample, HostSample]
    assert [type(record) for record in records] == kinds
    assert [record.start for record in records if isinstance(record, RankStep)] == [1, 5]
    assert [record.parent_id for record in records if isinstance(record, PeerTraffic)] == ["a" * 16, "c" * 16]


@pytest.mark.parametrize(("time", "left"), [("9", 1), (None, 0), (-1, 0)])
def test_the_traffic_of_a_nic(tmp_path: Path, time: Any, left: int) -> None:
    said = HostTraffic("eth0", 2.0, 5, 4, 3, 2)
    log = {"eventName": semconv.EVENT_NIC_TRAFFIC, "timeUnixNano": time, "attributes": pairs(said)}
    found = {"resourceLogs": [{"scopeLogs": [{"logRecords": [log]}]}]}
    records, problems = read_bytes(tmp_path, json.dumps(found).encode())
    assert [record for record in records if isinstance(record, HostTraffic) and record.at == 9] == records
    assert (len(records), problems.records) == (left, 1 - left)


def edited(path: str, value: Any) -> Any:
    """The full message with one thing in it replaced; numbers are places in lists."""
    found = json.loads(json.dumps(full_message()))
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place = found
    for part in way:
        place = place[part]
    place[last] = value
    return found


LOGS = "resourceLogs.0.scopeLogs.0.logRecords"
HISTOGRAMS = "resourceMetrics.0.scopeMetrics.0.metrics.1.histogram.dataPoints.0"


@pytest.mark.parametrize(
    ("path", "value", "left", "wrong", "unknown"),
    [
        (f"{LOGS}.0.attributes", pairs(STEP), 8, 1, 0),  # a step without its start
        (f"{LOGS}.0.timeUnixNano", "4", 8, 1, 0),  # that ends before it
        (f"{LOGS}.0.timeUnixNano", None, 8, 1, 0),
        (f"{LOGS}.1.timeUnixNano", None, 8, 1, 0),
        (f"{LOGS}.2.timeUnixNano", "x", 8, 1, 0),
        (f"{LOGS}.1.attributes", [], 8, 0, 1),
        (f"{LOGS}.2.attributes", None, 8, 0, 1),
        (f"{LOGS}.3.attributes", {}, 9, 1, 0),
        (f"{LOGS}.3.eventName", "exception", 8, 0, 1),
        (f"{LOGS}.3.eventName", [], 8, 0, 1),
        (f"{LOGS}.2.spanId", "x", 9, 1, 0),
        (f"{LOGS}.2.traceId", 7, 9, 0, 0),
        (f"{HISTOGRAMS}.bucketCounts", ["1"], 9, 1, 0),
        (f"{HISTOGRAMS}.bucketCounts", ["1", "2", "-3"], 9, 1, 0),
        (f"{HISTOGRAMS}.explicitBounds", "12", 9, 1, 0),
        (f"{HISTOGRAMS}.explicitBounds", [1.0, None], 9, 1, 0),
        (f"{HISTOGRAMS}.count", "-1", 8, 1, 0),
        ("resourceSpans.0.scopeSpans.0.spans.1.events", {}, 8, 1, 0),
        ("resourceSpans.0.scopeSpans.0.spans.1.events.0.timeUnixNano", -1, 8, 1, 0),
        ("resourceSpans.0.scopeSpans.0.spans.1.parentSpanId", "g" * 16, 9, 1, 0),
    ],
)
def test_what_cannot_be_used_is_counted(
    path: str, value: Any, left: int, wrong: int, unknown: int, tmp_path: Path
) -> None:
    records, problems = read_bytes(tmp_path, json.dumps(edited(path, value)).encode())
    assert (len(records), problems) == (left, Problems(records=wrong, unknown=unknown))


def read_all(path: Path) -> tuple[list[Known], Problems]:
    problems = Problems()
    return list(read(path, problems)), problems


def read_bytes(folder: Path, content: bytes) -> tuple[list[Known], Problems]:
    path = folder / "a.jsonl"
    path.write_bytes(content)
    return read_all(path)


def test_a_span_and_a_point(tmp_path: Path) -> None:
    records, problems = read_bytes(tmp_path, json.dumps(message()).encode())
    span, point = records
    assert isinstance(span, Collective) and isinstance(point, HostSample)
    assert (span.trace_id, span.start, span.end) == (SPAN["traceId"], 1, 5)
    assert (span.operation, span.rank, span.group_size, span.algbw) == ("all_reduce", 3, 4, 1.5)
    assert (point.value, point.time, point.is_delta) == (5, 7, False)
    assert point.source is not None and point.source.host == "h"
    assert problems == Problems()


GOOD = json.dumps(message()).encode() + b"\n"


@pytest.mark.parametrize(
    ("lines", "truncated", "corrupt"),
    [
        (GOOD + b'{"resourceSp', 1, 0),
        (GOOD + b'{"resourceSp\n', 0, 1),
        (b"\xff\xfe\n" + GOOD, 0, 1),
        (b"[1, 2]\n\n  \n" + GOOD, 0, 1),
        (b'{"a": NaN}\n' + GOOD, 0, 1),
        (b'{"a": ' + b"1" * 5000 + b"}\n" + GOOD, 0, 1),
        (b"[" * 200_000 + b"\n" + GOOD, 0, 1),
    ],
    ids=["cut off", "corrupt", "not utf-8", "not an object", "nan", "long number", "deep"],
)
def test_bad_lines_cost_themselves_only(lines: bytes, truncated: int, corrupt: int, tmp_path: Path) -> None:
    records, problems = read_bytes(tmp_path, lines)
    assert len(records) == 2
    assert problems == Problems(truncated=truncated, corrupt=corrupt)


def test_a_line_without_end_is_skipped_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_LINE", len(GOOD))
    records, problems = read_bytes(tmp_path, GOOD + b"x" * 5 * len(GOOD) + b"\n" + GOOD + b"y" * 2 * len(GOOD))
    assert len(records) == 4
    assert problems == Problems(corrupt=2)


@pytest.mark.parametrize(
    ("span", "point"),
    [
        ({**SPAN, "traceId": 7}, POINT),
        ({**SPAN, "traceId": "../../etc"}, POINT),
        ({**SPAN, "name": ["x"]}, POINT),
        ({**SPAN, "endTimeUnixNano": "0"}, POINT),
        ({**SPAN, "startTimeUnixNano": "1e3"}, POINT),
        ({**SPAN, "startTimeUnixNano": True}, POINT),
        ("span", POINT),
        (SPAN, {**POINT, "asInt": {}}),
        (SPAN, {**POINT, "asInt": 10**30}),
        (SPAN, {"timeUnixNano": "7", "asDouble": 1e200}),
    ],
)
def test_wrong_types_cost_one_record(span: Any, point: Any, tmp_path: Path) -> None:
    records, problems = read_bytes(tmp_path, json.dumps(message(span, point)).encode())
    assert len(records) == 1
    assert problems == Problems(records=1)


def test_a_resource_as_deep_as_can_be_parsed(tmp_path: Path) -> None:
    """Each line's is compared with that of the line before."""
    for depth in range(700, 1000):
        deep = '{"resourceSpans": [{"resource": ' + "[" * depth + "]" * depth + "}]}\n"
        _, problems = read_bytes(tmp_path, deep.encode() * 3)
        assert problems.corrupt in (0, 3)  # at which depth depends on the version of Python


def test_text_for_the_terminal_has_no_control_characters(tmp_path: Path) -> None:
    evil = "\x1b]0;x\x07" + "n" * 1000 + "\ud800"
    name = {"key": "torch.distributed.collective.name", "value": {"stringValue": evil}}
    span = {**SPAN, "name": evil, "attributes": [name]}
    read_bytes(tmp_path, json.dumps(message(span)).encode())
    text = plain(blocks(summarise(tmp_path)))
    assert "?]0;x?nnn" in text
    assert all(line.isprintable() and len(line) < 600 for line in text.splitlines())
    text.encode()


def test_only_plain_files_of_the_folder_are_read(tmp_path: Path) -> None:
    folder, outside = tmp_path / "in", tmp_path / "out.jsonl"
    (folder / "sub.jsonl").mkdir(parents=True)
    outside.write_bytes(GOOD)
    (folder / "link.jsonl").symlink_to(outside)
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "notes.txt").write_bytes(GOOD)
    (folder / "old.jsonl").write_bytes(GOOD)
    (folder / "real.json").write_bytes(GOOD)
    problems = Problems()
    assert [path.name for path in telemetry_files(folder, problems, {"old.jsonl"})] == ["real.json"]
    assert problems == Problems(files=3)
    # put in the file's place after the folder was listed
    for name in ("link.jsonl", "pipe.jsonl"):
        assert read_all(folder / name) == ([], Problems(files=1))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def nodes(value: Any) -> list[tuple[Any, Any]]:
    """Every ``(container, key)`` in ``value``."""
    pairs = (
        list(value.items())
        if isinstance(value, dict)
        else list(enumerate(value))
        if isinstance(value, list)
        else []
    )
    return [(value, key) for key, _ in pairs] + [place for _, inner in pairs for place in nodes(inner)]


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_part_of_a_message_may_be_anything(tmp_path: Path, data: st.DataObject) -> None:
    broken = json.loads(json.dumps(full_message()))
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(nodes(broken)))
        container[key] = data.draw(JUNK)
    content = json.dumps(broken).encode() + b"\n" + data.draw(st.binary(max_size=30)) + b"\n" + GOOD
    read_bytes(tmp_path, content)
    summary = summarise(tmp_path)  # the last line is good, so there is always something to say
    json.dumps(summary.to_dict(), allow_nan=False)
    plain(blocks(summary)).encode()
