"""Records out of the tables of the Collector's ClickHouse exporter: the SELECT that makes each type's columns.

What is absent is NULL. A record's own times and ids and its process (``source_…``) are columns, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from otel_netmon import schema, semconv
from otel_netmon.endings import LastCalls, RankExit
from otel_netmon.records import (
    Collective,
    Heartbeat,
    HostSample,
    HostTraffic,
    InFlight,
    PeerTraffic,
    RankStep,
    Source,
    Verdict,
)
from otel_netmon.store.engine import text

_READ: Final = {
    "string": "if(mapContains({map}, {key}), {map}[{key}], NULL)",
    "int": "toInt64OrNull({map}[{key}])",
    "double": "toFloat64OrNull({map}[{key}])",
    "boolean": "CAST(if(mapContains({map}, {key}), {map}[{key}] = 'true', NULL), 'Nullable(Bool)')",
}
"""Columns of type String, Int64, Float64 and Bool: nullable, but for what a record has to have."""
_PERIODS: Final = f"({', '.join(repr(name) for name in semconv.SPAN_PERIODS)})"
_IDS: Final = "TraceId AS `trace_id`, SpanId AS `span_id`"
_PARENT: Final = "nullIf(ParentSpanId, '') AS `parent_id`"
_AT: Final = "toUnixTimestamp64Nano(Timestamp)"
_SPAN: Final = f"{_AT} AS `start`, {_AT} + toInt64(Duration) AS `end`, {_IDS}, {_PARENT}"


TABLES: Final[dict[str, type[Any]]] = {
    "collectives": Collective,
    "steps": RankStep,
    "peers": PeerTraffic,
    "nics": HostTraffic,
    "hanging": InFlight,
    "heartbeats": Heartbeat,
    "exits": RankExit,
    "last_calls": LastCalls,
    "verdicts": Verdict,
    "points": HostSample,
}
"""By the name that queries have for it, what a row of a table is."""


def select(cls: type[Any]) -> str:
    """The SELECT of a type of record; its columns are the same in the same order, whatever it is made from."""
    return "\nUNION ALL\n".join(selects(cls))


def selects(cls: type[Any]) -> tuple[str, ...]:
    """The same by parts, each of which reads one table of the exporter's."""
    return tuple(_SELECTS[cls]())


def _read(attribute: semconv.Attribute, of: str) -> str:
    return _READ[attribute.type].format(map=of, key=text(attribute))


def _from(table: str, where: str, fields: str) -> str:
    source = (
        f"{_read(each, 'ResourceAttributes')} AS `source_{name}`"
        for name, each in schema.ATTRIBUTES[Source].items()
    )
    return f"SELECT {fields}, {', '.join(source)}\nFROM {table}\nWHERE {where}"


def _query(cls: type[Any], of: str, table: str, where: str, own: str, *first: str) -> str:
    fields, required = [*first], schema.required(cls)
    for name, attribute in schema.ATTRIBUTES[cls].items():
        value = _read(attribute, of)
        if name in required:
            where += f" AND {value} IS NOT NULL"
            value = f"assumeNotNull({value})"
        fields.append(f"{value} AS `{name}`")
    return _from(table, where, ", ".join((*fields, own)))


def _collectives() -> Iterator[str]:
    where = f"SpanName NOT IN {_PERIODS}"
    yield _query(Collective, "SpanAttributes", "otel_traces", where, _SPAN)


def _steps() -> Iterator[str]:
    traced = f"SpanName IN {_PERIODS}"
    yield _query(RankStep, "SpanAttributes", "otel_traces", traced, _SPAN, "toString(SpanName) AS `name`")
    start = _read(semconv.STEP_START, "LogAttributes")
    own = (
        f"assumeNotNull({start}) AS `start`, {_AT} AS `end`, {_IDS}, CAST(NULL, 'Nullable(String)') AS `parent_id`"
    )
    for period, event in semconv.EVENT_OF_PERIOD.items():
        where = f"EventName = {text(event)} AND {start} IS NOT NULL"
        yield _query(RankStep, "LogAttributes", "otel_logs", where, own, f"{text(period)} AS `name`")


def _traffic() -> Iterator[str]:
    own = "toUnixTimestamp64Nano({}) AS `at`, TraceId AS `trace_id`, nullIf(SpanId, '') AS `parent_id`"
    events = "otel_traces ARRAY JOIN Events.Timestamp AS moment, Events.Name AS event, Events.Attributes AS said"
    is_one = f"= {text(semconv.EVENT_TCP_PEER)}"
    yield _query(PeerTraffic, "said", events, f"event {is_one}", own.format("moment"))
    yield _query(PeerTraffic, "LogAttributes", "otel_logs", f"EventName {is_one}", own.format("Timestamp"))


def _logged(cls: type[Any], event: str, own: str) -> Iterator[str]:
    yield _query(cls, "LogAttributes", "otel_logs", f"EventName = {text(event)}", own)


def _samples() -> Iterator[str]:
    nanos = "toUnixTimestamp64Nano(toDateTime64({}, 9))"
    plain = "CAST(NULL, 'Nullable(Float64)') AS `sum`, CAST([], 'Array(Float64)') AS `bounds`, "
    plain += "CAST([], 'Array(UInt64)') AS `counts`"
    buckets = "CAST(Sum, 'Nullable(Float64)') AS `sum`, ExplicitBounds AS `bounds`, BucketCounts AS `counts`"
    delta = "CAST(AggregationTemporality = 1, 'Bool')"
    for kind, value, is_delta, rest in (
        ("gauge", "Value", "false", plain),
        ("sum", "Value", delta, plain),
        ("histogram", "toFloat64(Count)", delta, buckets),
    ):
        fields = f"toString(MetricName) AS `metric`, {value} AS `value`, {nanos.format('TimeUnix')} AS `time`, "
        fields += f"CAST(Attributes, 'Map(String, String)') AS `attributes`, {is_delta} AS `is_delta`, "
        fields += f"nullIf({nanos.format('StartTimeUnix')}, 0) AS `start_time`, {rest}"
        yield _from(f"otel_metrics_{kind}", "bitAnd(Flags, 1) = 0", fields)


_SELECTS: Final[dict[type[Any], Callable[[], Iterator[str]]]] = {
    Collective: _collectives,
    RankStep: _steps,
    PeerTraffic: _traffic,
    HostTraffic: lambda: _logged(HostTraffic, semconv.EVENT_NIC_TRAFFIC, f"{_AT} AS `at`"),
    InFlight: lambda: _logged(InFlight, semconv.EVENT_STALLED, f"{_AT} AS `time`, {_IDS}"),
    Heartbeat: lambda: _logged(Heartbeat, semconv.EVENT_HEARTBEAT, f"{_AT} AS `time`"),
    RankExit: lambda: _logged(RankExit, semconv.EVENT_EXITED, f"{_AT} AS `time`"),
    LastCalls: lambda: _logged(LastCalls, semconv.EVENT_LAST_CALLS, f"{_AT} AS `time`"),
    Verdict: lambda: _logged(Verdict, semconv.EVENT_DIAGNOSIS, f"{_AT} AS `time`, {_IDS}"),
    HostSample: _samples,
}
