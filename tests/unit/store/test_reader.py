"""Files that cannot be trusted are read without an exception, and what is lost is counted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_netmon.analysis.summary import summarise
from otel_netmon.cli.render import blocks, plain
from otel_netmon.records import Collective, HostSample
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
    broken = json.loads(json.dumps(message()))
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(nodes(broken)))
        container[key] = data.draw(JUNK)
    content = json.dumps(broken).encode() + b"\n" + data.draw(st.binary(max_size=30)) + b"\n" + GOOD
    read_bytes(tmp_path, content)
    summary = summarise(tmp_path)  # the last line is good, so there is always something to say
    json.dumps(summary.to_dict(), allow_nan=False)
    plain(blocks(summary)).encode()
