"""DDL that has a ClickHouse database answer in records: views over the tables that telemetry lies in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from otel_netmon.store import sql, unpacked
from otel_netmon.store.layouts import Layout

PREFIX: Final = "netmon_"
"""Of the views' names, which stand beside those tables."""
ORDER: Final = {
    "collectives": "trace_id, start",
    "steps": "trace_id, start",
    "peers": "trace_id, at",
    "nics": "at",
    "points": "metric, time",
}
"""By table, what rows are sorted by, those of others by ``time``: what is alike lies together, and compresses."""


def order(name: str) -> str:
    """What the rows of a table are sorted by."""
    return ORDER.get(name, "time")


def created(name: str, key: str, select: str) -> str:
    """The statement that makes an empty table with a SELECT's columns."""
    return f"CREATE TABLE {name} ENGINE = MergeTree ORDER BY ({key}) AS SELECT * FROM ({select}) WHERE 0"


def statements(layout: Layout, *, materialized: bool) -> Iterator[str]:
    """Without ``materialized``, views that read the tables of ``layout`` anew each time. With it, tables of their
    own that every insert into those fills from then on: what is there already is not taken over."""
    for name, cls in sql.TABLES.items():
        own = f"{PREFIX}{name}"
        if not materialized:
            yield f"CREATE OR REPLACE VIEW {own} AS\n{sql.select(cls, layout)}"
            continue
        yield created(f"IF NOT EXISTS {own}", order(name), sql.select(cls, layout))
        for number, part in enumerate(sql.selects(cls, layout)):
            yield f"CREATE MATERIALIZED VIEW IF NOT EXISTS {own}_{number} TO {own} AS\n{part}"
    for name in unpacked.NAMES:
        yield f"CREATE OR REPLACE VIEW {PREFIX}{name} AS\n{unpacked.select(name, lambda of: f'{PREFIX}{of}')}"
