"""The generated SQL, run by ClickHouse's engine over rows as the Collector's exporter makes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from otel_netmon import schema, semconv
from otel_netmon.endings import LastCall, LastCalls, RankExit
from otel_netmon.records import (
    Collective,
    GroupUse,
    Heartbeat,
    HostSample,
    HostTraffic,
    InFlight,
    PeerTraffic,
    RankStep,
    Source,
)
from otel_netmon.store import sql

PYTHON = os.environ.get("CHDB_PYTHON", sys.executable)
"""A Python that has chdb: it is large, and need not be in the environment of the tests."""

ENGINE = """
import json, sys
from chdb.session import Session
session = Session()
tables, queries = json.load(sys.stdin)
session.query("CREATE DATABASE t ENGINE = Atomic")
session.query("USE t")
for statement in tables:
    session.query(statement)
settings = " SETTINGS output_format_json_quote_64bit_integers = 0"
print(json.dumps([json.loads(session.query(query + settings, "JSON").data()) for query in queries]))
"""

MAP = "Map(LowCardinality(String), String)"
TABLES = {
    "otel_traces": "Timestamp DateTime64(9), TraceId String, SpanId String, ParentSpanId String, "
    f"SpanName LowCardinality(String), ResourceAttributes {MAP}, SpanAttributes {MAP}, Duration UInt64, "
    f"StatusCode LowCardinality(String), Events Nested (Timestamp DateTime64(9), Name LowCardinality(String), "
    f"Attributes {MAP})",
    "otel_logs": "Timestamp DateTime64(9), TraceId String, SpanId String, Body String, "
    f"ResourceAttributes {MAP}, LogAttributes {MAP}, EventName String",
    "otel_metrics_gauge": f"ResourceAttributes {MAP}, MetricName String, Attributes {MAP}, "
    "StartTimeUnix DateTime64(9), TimeUnix DateTime64(9), Value Float64, Flags UInt32",
    "otel_metrics_sum": f"ResourceAttributes {MAP}, MetricName String, Attributes {MAP}, "
    "StartTimeUnix DateTime64(9), TimeUnix DateTime64(9), Value Float64, Flags UInt32, "
    "AggregationTemporality Int32, IsMonotonic Boolean",
    "otel_metrics_histogram": f"ResourceAttributes {MAP}, MetricName String, Attributes {MAP}, "
    "StartTimeUnix DateTime64(9), TimeUnix DateTime64(9), Count UInt64, Sum Float64, "
    "BucketCounts Array(UInt64), ExplicitBounds Array(Float64), Flags UInt32, AggregationTemporality Int32",
}

TYPES = {"string": "String", "int": "Int64", "double": "Float64", "boolean": "Bool"}

AT = 10**18
SOURCE = Source("i'0", "h", 3, None, 4, "s", 99)
RESOURCE = {
    "service.instance.id": "i'0",
    "host.name": "h",
    str(semconv.RANK): "3",
    str(semconv.WORLD_SIZE): "4",
    "service.name": "s",
    str(semconv.PROCESS_ID): "99",
}
IDS: dict[str, Any] = {"trace_id": "a" * 32, "source": SOURCE}

COLLECTIVE = Collective(
    "all_reduce", "0", size=64, is_async=False, algbw=1.5, error="", start=AT, end=AT + 7, span_id="c" * 16, **IDS
)
TRACED = RankStep(
    "rank_step",
    "it's",
    step=1,
    sampled=True,
    groups=(GroupUse("0", 1, 2, None, 4, 8),),
    start=AT,
    end=AT + 9,
    span_id="b" * 16,
    parent_id="f" * 16,
    **IDS,
)
LOGGED = TRACED._replace(step=2, sampled=False, groups=(), parent_id=None, start=AT + 10, end=AT + 11)
TRAFFIC = PeerTraffic(
    1, None, 0.5, 2, 3, None, None, 0, 1e-4, None, None, 0.25, None, None, 10**9, 0, 0, 5, 3, 2e-5, "10.0.0.7",
    AT + 1, parent_id="b" * 16, **IDS,
)  # fmt: skip
HANGING = InFlight("barrier", "0", 4, None, 61.5, rank=3, time=AT + 12, span_id="d" * 16, **IDS)
NIC = HostTraffic("eth0", 2.0, 5, 4, 3, 2, 3, AT + 14, SOURCE)
BEAT = Heartbeat("it's", 3, step=2, step_age=0.5, time=AT + 13, source=SOURCE)
END = RankExit(4711, 3, 1, 8, signal=9, time=AT + 15, source=SOURCE)
LAST = LastCalls(4711, "it's", 3, step=2, calls=(LastCall("barrier", "0", 4, 0, 7, None, None),), time=AT + 16)
LAST = LAST._replace(source=SOURCE)
SAMPLES = [
    HostSample("g", 1.5, AT, {"k": "v"}, source=SOURCE),
    HostSample("s", 5.0, AT, {}, True, AT - 10**9, source=SOURCE),
    HostSample("h", 3.0, AT, {}, False, AT - 10**9, 0.5, (1.0, 2.0), (1, 2, 0), SOURCE),
]


def text(value: Any) -> str:
    """As the exporter writes an attribute's value."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def literal(value: Any) -> str:
    if isinstance(value, dict):
        return (
            "map(" + ", ".join(literal(each) for pair in value.items() for each in pair) + ")"
            if value
            else "map()"
        )
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(literal, value)) + "]"
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'" if isinstance(value, str) else repr(value)


def insert(table: str, *values: Any) -> str:
    row = ", ".join(
        f"fromUnixTimestamp64Nano({value.time})" if isinstance(value, Moment) else literal(value)
        for value in values
    )
    return f"INSERT INTO {table} SELECT {row}"


class Moment:
    def __init__(self, time: int) -> None:
        self.time = time


def said(record: Any) -> dict[str, str]:
    return {name: text(value) for name, value in schema.attributes(record).items()}


def span(record: Any, name: str, *events: PeerTraffic, attributes: dict[str, str] | None = None) -> str:
    moments = ", ".join(f"fromUnixTimestamp64Nano({one.at})" for one in events)
    about = said(record) if attributes is None else attributes
    row = insert(
        "otel_traces",
        *(Moment(record.start), record.trace_id, record.span_id, record.parent_id or "", name, RESOURCE, about),
        *(record.end - record.start, "Unset"),
    )
    names = literal([semconv.EVENT_TCP_PEER for _ in events])
    return f"{row}, [{moments}], {names}, [{', '.join(literal(said(one)) for one in events)}]"


def log(record: Any, name: str, time: int, **more: str) -> str:
    ids = (
        getattr(record, "trace_id", ""),
        getattr(record, "span_id", None) or getattr(record, "parent_id", "") or "",
    )
    return insert("otel_logs", Moment(time), *ids, "said", RESOURCE, said(record) | more, name)


def sample(one: HostSample) -> str:
    about = RESOURCE, one.metric, dict(one.attributes), Moment(one.start_time or 0), Moment(one.time)
    if one.metric == "h":
        return insert("otel_metrics_histogram", *about, 3, one.sum, one.counts, one.bounds, 0, 2)
    return insert(
        f"otel_metrics_{'gauge' if one.metric == 'g' else 'sum'}",
        *about,
        one.value,
        0,
        *((1, True) if one.is_delta else ()),
    )


STATEMENTS = [
    *(f"CREATE TABLE {name} ({columns}) ENGINE = Memory" for name, columns in TABLES.items()),
    span(COLLECTIVE, "all_reduce"),
    span(COLLECTIVE, "somebody_elses", attributes={"a": "b"}),
    span(TRACED, "rank_step", TRAFFIC),
    log(LOGGED, semconv.EVENT_OF_PERIOD["rank_step"], LOGGED.end, **{semconv.STEP_START: str(LOGGED.start)}),
    log(LOGGED, semconv.EVENT_OF_PERIOD["rank_step"], LOGGED.end),  # without its start it is none
    log(TRAFFIC._replace(peer=2), semconv.EVENT_TCP_PEER, TRAFFIC.at),
    log(HANGING, semconv.EVENT_STALLED, HANGING.time),
    log(BEAT, semconv.EVENT_HEARTBEAT, BEAT.time),
    log(END, semconv.EVENT_EXITED, END.time),
    log(LAST, semconv.EVENT_LAST_CALLS, LAST.time),
    log(NIC, semconv.EVENT_NIC_TRAFFIC, NIC.at),
    *map(sample, SAMPLES),
]

EXPECTED: dict[Any, list[Any]] = {
    Collective: [COLLECTIVE],
    RankStep: [TRACED, LOGGED],
    PeerTraffic: [TRAFFIC, TRAFFIC._replace(peer=2)],
    InFlight: [HANGING],
    Heartbeat: [BEAT],
    RankExit: [END],
    LastCalls: [LAST],
    HostTraffic: [NIC],
    HostSample: SAMPLES,
}


def columns_of(record: Any) -> dict[str, Any]:
    """The row that a record is."""
    row, own = record._asdict(), record.source._asdict()
    packed = schema.attributes(record) if type(record) in schema.ATTRIBUTES else {}
    for name, attribute in schema.ATTRIBUTES.get(type(record), {}).items():
        if attribute in schema.PACKED:
            row[name] = packed.get(attribute)
    del row["source"]
    return {**row, **{f"source_{name}": value for name, value in own.items()}}


@pytest.fixture(scope="module")
def answers() -> dict[Any, Any]:
    has = subprocess.run([PYTHON, "-c", "import chdb"], capture_output=True, timeout=60)
    if has.returncode:
        pytest.skip("needs chDB: pip install chdb-core (or CHDB_PYTHON=a Python that has it)")
    queries = [sql.select(cls) for cls in EXPECTED]
    done = subprocess.run(
        [PYTHON, "-c", ENGINE],
        input=json.dumps([STATEMENTS, queries]),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(zip(EXPECTED, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize("cls", EXPECTED)
def test_rows_are_records(cls: Any, answers: dict[Any, Any]) -> None:
    expected = [json.loads(json.dumps(columns_of(record))) for record in EXPECTED[cls]]
    found = answers[cls]["data"]
    key = json.dumps
    assert sorted(found, key=key) == sorted(expected, key=key), found


@pytest.mark.parametrize("cls", [cls for cls in EXPECTED if cls in schema.ATTRIBUTES])
def test_columns_have_the_types_of_the_schema(cls: Any, answers: dict[Any, Any]) -> None:
    types = {column["name"]: column["type"] for column in answers[cls]["meta"]}
    required = schema.required(cls)
    for name, attribute in schema.ATTRIBUTES[cls].items():
        kind = TYPES[attribute.type]
        assert types[name] == (kind if name in required else f"Nullable({kind})")


def test_each_type_of_record_has_one() -> None:
    for cls in EXPECTED:
        assert sql.select(cls).count("FROM otel_") == {RankStep: 4, PeerTraffic: 2, HostSample: 3}.get(cls, 1)
