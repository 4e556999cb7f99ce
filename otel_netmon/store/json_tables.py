"""OTLP JSON lines as the tables of the Collector's ClickHouse exporter: what is asked of those is asked of files.

Columns have the exporter's names and types, as far as ``sql`` uses them. A line is parsed once, whatever it holds;
one that is no JSON gives no rows, and can be told.
"""

from __future__ import annotations

from typing import Final

_VALUE: Final = "Tuple(stringValue String, intValue String, doubleValue String, boolValue String)"
_PAIRS: Final = f"Array(Tuple(key String, value {_VALUE}))"
_SCOPE: Final = "scope Tuple(name String, version String)"
_TIMES: Final = "startTimeUnixNano Int64, timeUnixNano Int64"


def _message(scopes: str, items: str, item: str) -> str:
    scope = f"Tuple({_SCOPE}, {items} Array(Tuple({item})))"
    return f"Array(Tuple(resource Tuple(attributes {_PAIRS}), {scopes} Array({scope})))"


_EVENT: Final = f"Tuple(timeUnixNano Int64, name String, attributes {_PAIRS})"
_SPAN: Final = (
    "traceId String, spanId String, parentSpanId String, name String, startTimeUnixNano Int64, "
    f"endTimeUnixNano Int64, attributes {_PAIRS}, events Array({_EVENT}), "
    "status Tuple(code UInt8, message String)"
)
_LOG: Final = (
    "traceId String, spanId String, timeUnixNano Int64, eventName String, body Tuple(stringValue String), "
    f"attributes {_PAIRS}"
)
_NUMBER: Final = (
    f"Tuple(attributes {_PAIRS}, {_TIMES}, asInt Nullable(Int64), asDouble Nullable(Float64), flags UInt32)"
)
_BUCKETS: Final = (
    f"Tuple(attributes {_PAIRS}, {_TIMES}, count UInt64, sum Nullable(Float64), bucketCounts Array(UInt64), "
    "explicitBounds Array(Float64), flags UInt32)"
)
_METRIC: Final = (
    f"name String, unit String, gauge Tuple(dataPoints Array({_NUMBER})), "
    f"sum Tuple(dataPoints Array({_NUMBER}), aggregationTemporality Int32, isMonotonic Bool), "
    f"histogram Tuple(dataPoints Array({_BUCKETS}), aggregationTemporality Int32)"
)
_MESSAGES: Final = {
    "resourceSpans": _message("scopeSpans", "spans", _SPAN),
    "resourceLogs": _message("scopeLogs", "logRecords", _LOG),
    "resourceMetrics": _message("scopeMetrics", "metrics", _METRIC),
}

_COLUMNS: Final = ", ".join(
    f"if(position(left(line, 64), '\"{name}\"') > 0, JSONExtract(line, '{name}', '{kind}'), []) AS `{name}`"
    for name, kind in _MESSAGES.items()
)
"""Made of ``line``; empty where the line has none, or is no JSON."""
IS_BAD: Final = "NOT isValidJSON(line) AND notEmpty(trim(line))"
"""Of ``line``: whether it is damaged."""


def messages(lines: str) -> str:
    """The statement that has the view ``messages``, which ``TABLES`` read, be of a table function's ``line``s."""
    return f"CREATE OR REPLACE VIEW messages AS SELECT line, {_COLUMNS} FROM {lines}"


def _as_map(pairs: str) -> str:
    read = "concat(pair.value.stringValue, pair.value.intValue, pair.value.doubleValue, pair.value.boolValue)"
    return f"CAST(arrayMap(pair -> (pair.key, {read}), {pairs}), 'Map(String, String)')"


def _at(nanoseconds: str) -> str:
    return f"fromUnixTimestamp64Nano({nanoseconds})"


def _low(text: str) -> str:
    return f"CAST({text}, 'LowCardinality(String)')"


def _select(columns: dict[str, str], name: str, scopes: str, items: str) -> str:
    fields = ", ".join(f"{value} AS `{column}`" for column, value in columns.items())
    # What is the same for many is worked out once; and one query has one ARRAY JOIN at most.
    resources = (
        f"SELECT about.{scopes} AS scopes, {_as_map('about.resource.attributes')} AS resource "
        f"FROM messages ARRAY JOIN {name} AS about"
    )
    scoped = (
        f"SELECT resource, scope.scope.name AS scope_name, scope.{items} AS items "
        f"FROM ({resources}) ARRAY JOIN scopes AS scope"
    )
    return f"SELECT {fields}\nFROM ({scoped}) ARRAY JOIN items AS item"


_RESOURCE: Final = {
    "ServiceName": _low("resource['service.name']"),
    "ResourceAttributes": "resource",
    "ScopeName": "scope_name",
}
_IDS: Final = {"TraceId": "lower(item.traceId)", "SpanId": "lower(item.spanId)"}


def _traces() -> str:
    columns = {
        "Timestamp": _at("item.startTimeUnixNano"),
        **_IDS,
        "ParentSpanId": "lower(item.parentSpanId)",
        "SpanName": _low("item.name"),
        **_RESOURCE,
        "SpanAttributes": _as_map("item.attributes"),
        "Duration": "toUInt64(greatest(0, item.endTimeUnixNano - item.startTimeUnixNano))",
        "StatusCode": _low("['Unset', 'Ok', 'Error'][item.status.code + 1]"),
        "StatusMessage": "item.status.message",
        "Events.Timestamp": f"arrayMap(event -> {_at('event.timeUnixNano')}, item.events)",
        "Events.Name": "CAST(arrayMap(event -> event.name, item.events), 'Array(LowCardinality(String))')",
        "Events.Attributes": f"arrayMap(event -> {_as_map('event.attributes')}, item.events)",
    }
    return _select(columns, "resourceSpans", "scopeSpans", "spans")


def _logs() -> str:
    columns = {
        "Timestamp": _at("item.timeUnixNano"),
        **_IDS,
        **_RESOURCE,
        "Body": "item.body.stringValue",
        "LogAttributes": _as_map("item.attributes"),
        "EventName": "item.eventName",
    }
    return _select(columns, "resourceLogs", "scopeLogs", "logRecords")


def _points(kind: str, own: dict[str, str], metric: dict[str, str]) -> str:
    about = {
        **_RESOURCE,
        "MetricName": "item.name",
        "MetricUnit": "item.unit",
        **{name: f"item.{kind}.{value}" for name, value in metric.items()},
        "points": f"item.{kind}.dataPoints",
    }
    columns = {
        **{name: f"`{name}`" for name in about if name != "points"},
        "Attributes": _as_map("point.attributes"),
        "StartTimeUnix": _at("point.startTimeUnixNano"),
        "TimeUnix": _at("point.timeUnixNano"),
        **own,
        "Flags": "point.flags",
    }
    fields = ", ".join(f"{value} AS `{column}`" for column, value in columns.items())
    metrics = _select(about, "resourceMetrics", "scopeMetrics", "metrics")
    return f"SELECT {fields}\nFROM ({metrics}) ARRAY JOIN points AS point"


_NUMBERS: Final = {"Value": "ifNull(point.asDouble, toFloat64(ifNull(point.asInt, 0)))"}
_BUCKETED: Final = {
    "Count": "point.count",
    "Sum": "point.sum",
    "BucketCounts": "point.bucketCounts",
    "ExplicitBounds": "point.explicitBounds",
}
_TEMPORALITY: Final = {"AggregationTemporality": "aggregationTemporality"}

TABLES: Final = {
    "otel_traces": _traces(),
    "otel_logs": _logs(),
    "otel_metrics_gauge": _points("gauge", _NUMBERS, {}),
    "otel_metrics_sum": _points("sum", _NUMBERS, {**_TEMPORALITY, "IsMonotonic": "isMonotonic"}),
    "otel_metrics_histogram": _points("histogram", _BUCKETED, _TEMPORALITY),
}
"""The SELECT of each, out of the view ``messages``."""
