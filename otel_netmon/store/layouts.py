"""How ClickHouse databases keep telemetry: what stands for the tables of the Collector's exporter, and how
attributes are read there. What is absent is NULL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from otel_netmon import semconv
from otel_netmon.store.engine import Engine, text

_IN_MAP: Final = {
    "string": "if(mapContains({of}, {key}), {of}[{key}], NULL)",
    "int": "toInt64OrNull({of}[{key}])",
    "double": "toFloat64OrNull({of}[{key}])",
    "boolean": "CAST(if(mapContains({of}, {key}), {of}[{key}] = 'true', NULL), 'Nullable(Bool)')",
}
"""Out of a column that maps names to texts: columns of type String, Int64, Float64 and Bool, nullable all."""
_IN_JSON: Final = {
    "string": "CAST({of}.{path}, 'Nullable(String)')",
    **{
        kind: f"accurateCastOrNull({{of}}.{{path}}, '{to}')"
        for kind, to in (("int", "Int64"), ("double", "Float64"))
    },
    "boolean": "accurateCastOrNull({of}.{path}, 'Bool')",
}
"""The same out of a column of type JSON, where only the paths that are asked for are read."""
TRACES: Final = "otel_traces"
LOGS: Final = "otel_logs"
METRICS: Final = "otel_metrics_"
"""How the names of tables of points begin."""


class Layout(NamedTuple):
    """One way of keeping them."""

    name: str
    """For the command line."""
    instead: Mapping[str, str] = {}
    """By the name of a table of the exporter's, what stands for it where there is none of that name."""
    absent: frozenset[str] = frozenset()
    """Of these, the tables that are always empty."""
    has_json: bool = False
    """Whether attributes of spans and log records are JSON. Those of points are not in any case."""

    def read(self, attribute: semconv.Attribute, of: str, table: str) -> str:
        """A column's expression: an attribute out of the column ``of`` of a table."""
        how = _IN_JSON if self.has_json and not table.startswith(METRICS) else _IN_MAP
        return how[attribute.type].format(of=of, key=text(attribute), path=f"`{attribute}`")


def _as_map(*pairs: str) -> str:
    return f"CAST(arrayConcat({', '.join(pairs)}), 'Map(String, String)')"


_TYPES: Final = ("bool", "double", "int", "str")


def _of_jaeger(prefix: str) -> str:
    return _as_map(
        *(f"arrayMap((name, value) -> (name, toString(value)), {prefix}{each}_attributes.key, "
          f"{prefix}{each}_attributes.value)" for each in _TYPES)
    )  # fmt: skip


def _jaeger() -> str:
    """Jaeger's ``spans`` as the exporter's table."""
    of_event = _as_map(*(f"arrayMap(pair -> (pair.1, toString(pair.2)), of_{each})" for each in _TYPES))
    columns = {
        "Timestamp": "start_time",
        "TraceId": "trace_id",
        "SpanId": "id",
        "ParentSpanId": "parent_span_id",
        "SpanName": "name",
        "Duration": "toUInt64(greatest(0, duration))",
        "SpanAttributes": _of_jaeger(""),
        "ResourceAttributes": _of_jaeger("resource_"),
        "Events.Timestamp": "events.timestamp",
        "Events.Name": "events.name",
        "Events.Attributes": f"arrayMap(({', '.join(f'of_{each}' for each in _TYPES)}) -> {of_event}, "
        f"{', '.join(f'events.{each}_attributes' for each in _TYPES)})",
    }
    return f"(SELECT {', '.join(f'{value} AS `{name}`' for name, value in columns.items())} FROM spans)"


_MAP: Final = "CAST(map(), 'Map(String, String)')"
_AT: Final = "toDateTime64(0, 9)"
_NO_LOGS: Final = (
    f"(SELECT {_AT} AS Timestamp, '' AS TraceId, '' AS SpanId, '' AS EventName, {_MAP} AS LogAttributes, "
    f"{_MAP} AS ResourceAttributes WHERE 0)"
)
_NO_POINTS: Final = (
    f"(SELECT '' AS MetricName, {_MAP} AS Attributes, {_MAP} AS ResourceAttributes, {_AT} AS TimeUnix, "
    f"{_AT} AS StartTimeUnix, toUInt32(0) AS Flags, toFloat64(0) AS Value, toInt32(0) AS AggregationTemporality, "
    "toUInt64(0) AS Count, toFloat64(0) AS Sum, CAST([], 'Array(UInt64)') AS BucketCounts, "
    "CAST([], 'Array(Float64)') AS ExplicitBounds WHERE 0)"
)
_EMPTY: Final = {LOGS: _NO_LOGS, **{f"{METRICS}{kind}": _NO_POINTS for kind in ("gauge", "sum", "histogram")}}

EXPORTER: Final = Layout("exporter")
"""That of the Collector's clickhouse exporter, whose tables files are read as, too."""
EXPORTER_JSON: Final = Layout("exporter-json", has_json=True)
"""The same with its option ``json: true``."""
JAEGER: Final = Layout("jaeger", {TRACES: _jaeger(), **_EMPTY}, frozenset(_EMPTY))
"""Jaeger's own storage, which keeps spans and nothing else."""
LAYOUTS: Final = {each.name: each for each in (EXPORTER, EXPORTER_JSON, JAEGER)}
"""All, by name."""
_TELLING: Final = ((TRACES, "SpanAttributes"), (LOGS, "LogAttributes"), ("spans", "str_attributes.key"))


def found(engine: Engine) -> Layout:
    """That of the database that ``engine`` asks; raises ``EngineError``."""
    telling = ", ".join(f"({text(table)}, {text(column)})" for table, column in _TELLING)
    known = engine.ask(
        "SELECT table, type FROM system.columns WHERE database = currentDatabase() "
        f"AND (table, name) IN ({telling})"
    )
    types = {table: str(kind) for table, kind in known.rows}
    if not types.keys() & {TRACES, LOGS} and "spans" in types:
        return JAEGER
    return EXPORTER_JSON if any(kind.startswith("JSON") for kind in types.values()) else EXPORTER
