"""Records out of the tables of the Collector's ClickHouse exporter, or what is like them: the SELECT of each type.

What is absent is NULL. A record's own times and ids and its process (``source_…``) are columns, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

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
from otel_netmon.store.layouts import EXPORTER, LOGS, METRICS, TRACES, Layout

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


def select(cls: type[Any], layout: Layout = EXPORTER) -> str:
    """The SELECT of a type of record; its columns are the same in the same order, whatever it is made from."""
    return "\nUNION ALL\n".join(each for _, each in _SELECTS[cls](layout))


def selects(cls: type[Any], layout: Layout = EXPORTER) -> tuple[str, ...]:
    """The same by parts, each of which reads one table; without those of tables that are always empty."""
    return tuple(each for table, each in _SELECTS[cls](layout) if table not in layout.absent)


_Parts = Iterator[tuple[str, str]]
"""A table of the exporter's, and a SELECT that reads it or what stands for it."""


class _Place(NamedTuple):
    """Where attributes stand."""

    layout: Layout
    table: str
    column: str = ""
    joined: str = ""
    """What makes a row of each event of a span."""

    def read(self, attribute: semconv.Attribute) -> str:
        """The expression of a column."""
        return self.layout.read(attribute, self.column, self.table)


def _from(place: _Place, where: str, fields: str) -> tuple[str, str]:
    resource = place._replace(column="ResourceAttributes")
    source = (f"{resource.read(each)} AS `source_{name}`" for name, each in schema.ATTRIBUTES[Source].items())
    read = f"{place.layout.instead.get(place.table, place.table)}{place.joined}"
    return place.table, f"SELECT {fields}, {', '.join(source)}\nFROM {read}\nWHERE {where}"


def _query(cls: type[Any], place: _Place, where: str, own: str, *first: str) -> tuple[str, str]:
    fields, required = [*first], schema.required(cls)
    for name, attribute in schema.ATTRIBUTES[cls].items():
        value = place.read(attribute)
        if name in required:
            where += f" AND {value} IS NOT NULL"
            value = f"assumeNotNull({value})"
        fields.append(f"{value} AS `{name}`")
    return _from(place, where, ", ".join((*fields, own)))


def _collectives(layout: Layout) -> _Parts:
    yield _query(Collective, _spans(layout), f"SpanName NOT IN {_PERIODS}", _SPAN)


def _steps(layout: Layout) -> _Parts:
    traced = f"SpanName IN {_PERIODS}"
    yield _query(RankStep, _spans(layout), traced, _SPAN, "toString(SpanName) AS `name`")
    place = _logs(layout)
    start = place.read(semconv.STEP_START)
    own = (
        f"assumeNotNull({start}) AS `start`, {_AT} AS `end`, {_IDS}, CAST(NULL, 'Nullable(String)') AS `parent_id`"
    )
    for period, event in semconv.EVENT_OF_PERIOD.items():
        where = f"EventName = {text(event)} AND {start} IS NOT NULL"
        yield _query(RankStep, place, where, own, f"{text(period)} AS `name`")


def _traffic(layout: Layout) -> _Parts:
    own = "toUnixTimestamp64Nano({}) AS `at`, TraceId AS `trace_id`, nullIf(SpanId, '') AS `parent_id`"
    joined = " ARRAY JOIN Events.Timestamp AS moment, Events.Name AS event, Events.Attributes AS said"
    is_one = f"= {text(semconv.EVENT_TCP_PEER)}"
    events = _Place(layout, TRACES, "said", joined)
    yield _query(PeerTraffic, events, f"event {is_one}", own.format("moment"))
    yield _query(PeerTraffic, _logs(layout), f"EventName {is_one}", own.format("Timestamp"))


def _spans(layout: Layout) -> _Place:
    return _Place(layout, TRACES, "SpanAttributes")


def _logs(layout: Layout) -> _Place:
    return _Place(layout, LOGS, "LogAttributes")


def _logged(cls: type[Any], event: str, own: str) -> Callable[[Layout], _Parts]:
    def parts(layout: Layout) -> _Parts:
        yield _query(cls, _logs(layout), f"EventName = {text(event)}", own)

    return parts


def _samples(layout: Layout) -> _Parts:
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
        yield _from(_Place(layout, f"{METRICS}{kind}"), "bitAnd(Flags, 1) = 0", fields)


_SELECTS: Final[dict[type[Any], Callable[[Layout], _Parts]]] = {
    Collective: _collectives,
    RankStep: _steps,
    PeerTraffic: _traffic,
    HostTraffic: _logged(HostTraffic, semconv.EVENT_NIC_TRAFFIC, f"{_AT} AS `at`"),
    InFlight: _logged(InFlight, semconv.EVENT_STALLED, f"{_AT} AS `time`, {_IDS}"),
    Heartbeat: _logged(Heartbeat, semconv.EVENT_HEARTBEAT, f"{_AT} AS `time`"),
    RankExit: _logged(RankExit, semconv.EVENT_EXITED, f"{_AT} AS `time`"),
    LastCalls: _logged(LastCalls, semconv.EVENT_LAST_CALLS, f"{_AT} AS `time`"),
    Verdict: _logged(Verdict, semconv.EVENT_DIAGNOSIS, f"{_AT} AS `time`, {_IDS}"),
    HostSample: _samples,
}
