"""Ways in which a database keeps telemetry: each is seen for what it is, and gives the same columns and types."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from otel_netmon.records import HostSample
from otel_netmon.store import layouts, sql, unpacked
from otel_netmon.store.engine import Answer
from otel_netmon.store.layouts import EXPORTER, EXPORTER_JSON, JAEGER, Layout
from tests.unit.store.test_sql import ENGINE, MAP, PYTHON, TABLES

_NESTED = [
    f"{before}{kind}_attributes Nested (key String, value {value})"
    for before in ("", "resource_")
    for kind, value in (("bool", "Bool"), ("double", "Float64"), ("int", "Int64"), ("str", "String"))
]
SPANS = (
    "id String, trace_id String, parent_span_id String, name String, start_time DateTime64(9), duration Int64, "
    f"{', '.join(_NESTED)}, events Nested (name String, timestamp DateTime64(9), {', '.join(_NESTED[:4])})"
)
"""Jaeger's, as far as it is read."""


def tables(layout: Layout) -> dict[str, str]:
    """Their columns, by name."""
    if layout is JAEGER:
        return {"spans": SPANS}
    are_json = layout is EXPORTER_JSON
    return {
        name: columns.replace(MAP, "JSON") if are_json and not name.startswith(layouts.METRICS) else columns
        for name, columns in TABLES.items()
    }


def asked(layout: Layout, queries: list[str]) -> list[Any]:
    """By chDB, in a database with those tables and nothing in them."""
    made = [f"CREATE TABLE {name} ({of}) ENGINE = MergeTree ORDER BY ()" for name, of in tables(layout).items()]
    done = subprocess.run(
        [PYTHON, "-c", ENGINE], input=json.dumps([made, queries]), capture_output=True, text=True, timeout=120
    )
    if "No module named 'chdb'" in done.stderr:
        pytest.skip("needs chDB: pip install chdb-core (or CHDB_PYTHON=a Python that has it)")
    assert done.returncode == 0, done.stderr[-3000:]
    return [answer["meta"] for answer in json.loads(done.stdout)]


def test_columns_and_their_types_are_the_same() -> None:
    expected, *others = (
        asked(layout, [sql.select(cls, layout) for cls in sql.TABLES.values()])
        for layout in (EXPORTER, EXPORTER_JSON, JAEGER)
    )
    for name, *columns in zip(sql.TABLES, expected, *others, strict=True):
        assert columns[0] == columns[1] == columns[2], name


class Database:
    """Has columns of these types."""

    def __init__(self, *rows: list[str]) -> None:
        self._rows = [*rows]

    def ask(self, query: str) -> Answer:
        assert "system.columns" in query
        return Answer(("table", "type"), self._rows)

    def run(self, statement: str) -> None:
        raise AssertionError

    def close(self) -> None:
        raise AssertionError


@pytest.mark.parametrize(
    ("columns", "layout"),
    [
        ([["otel_traces", MAP], ["otel_logs", MAP]], EXPORTER),
        ([["otel_traces", "JSON"], ["otel_logs", "JSON"]], EXPORTER_JSON),
        ([["otel_logs", "JSON(max_dynamic_paths=8)"]], EXPORTER_JSON),
        ([["spans", "Array(String)"]], JAEGER),
        ([["spans", "Array(String)"], ["otel_traces", MAP]], EXPORTER),
        ([], EXPORTER),  # whose tables are then missed
    ],
)
def test_a_column_tells_which_it_is(columns: list[list[str]], layout: Layout) -> None:
    assert layouts.found(Database(*columns)) is layout


def test_of_jaeger_only_what_there_is_fills_tables() -> None:
    filled = {name for name, cls in sql.TABLES.items() if sql.selects(cls, JAEGER)}
    assert filled == {"collectives", "steps", "peers"}
    assert all("FROM otel_" not in sql.select(cls, JAEGER) for cls in sql.TABLES.values())
    assert "JSON" not in sql.select(HostSample, EXPORTER_JSON) and set(unpacked.MADE_OF) <= set(sql.TABLES)
