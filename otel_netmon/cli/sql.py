"""``otel-netmon compact``, ``query`` and ``clickhouse-views``: what they take, and which way they go."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final, Protocol

from otel_netmon.cli.arguments import steps

COMMANDS: Final = ("compact", "query", "clickhouse-views")
_COMPACT: Final = """\
write the telemetry files in DIR as typed Parquet files to DIR/compact, once

They have a fiftieth of the size or less, and `query` then answers in a second or so, however long the run was. The
telemetry files stay as they are. Needs chDB: pip install 'otel-netmon[analyze]'.
"""
_QUERY: Final = """\
ask DIR's telemetry, or that in a ClickHouse database, in SQL

SOURCE is a folder with telemetry files, or clickhouse://user:password@host:port/database (clickhouses:// with TLS)
with the tables of the OpenTelemetry Collector's clickhouse exporter, or of Jaeger. QUESTION is one of
  ops      operations: calls, bytes, durations, bandwidths
  late     who came last to collectives, and what the others waited
  exposed  how much of each step's communication the training waited for
  links    between hosts: goodput, round-trip times, segments sent again
  steps    each step: how long, where longest, own time
  sql      the SELECT that follows, over the tables collectives, steps, peers, nics, hanging, heartbeats, exits,
           last_calls, verdicts and points, and over what is packed into steps that have no spans of their
           collectives: calls_of_steps and sums_of_steps
Needs chDB or, for a server, clickhouse-connect: pip install 'otel-netmon[analyze]'.
"""
_VIEWS: Final = """\
print the SQL that makes views of records in a ClickHouse database

They stand beside the tables that telemetry lies in and are named netmon_collectives, netmon_steps, … with typed
columns. Pipe it into clickhouse-client. `otel-netmon query` needs none of them. SCHEMA is whose tables those are:
  exporter       the OpenTelemetry Collector's clickhouse exporter's (the default)
  exporter-json  the same with its option `json: true`
  jaeger         Jaeger's own storage's, which has traces only: views of logs and metrics stay empty
"""


class Add(Protocol):
    """Adds a command: its name, its description, what follows the name."""

    def __call__(self, name: str, description: str, usage: str) -> argparse.ArgumentParser: ...


def add_commands(add: Add) -> None:
    """Add the three, and what they take."""
    compact = add("compact", _COMPACT, "DIR")
    compact.add_argument("folder", metavar="DIR", type=Path, help="the folder with the files")
    query = add("query", _QUERY, "SOURCE QUESTION [SELECT] [--run ID] [--steps A:B] [--json]")
    query.add_argument("source", metavar="SOURCE", help="a folder, or the URL of a ClickHouse database")
    query.add_argument("question", metavar="QUESTION", help="ops, late, exposed, links, steps or sql")
    query.add_argument("statement", metavar="SELECT", nargs="?", help="with sql: the query")
    query.add_argument("--run", metavar="ID", dest="run_id", help="of this run alone")
    query.add_argument("--steps", metavar="A:B", type=steps, help="of these steps alone; A or B may be left out")
    query.add_argument("--json", action="store_true", help="print JSON; the columns' names say their units")
    views = add("clickhouse-views", _VIEWS, "[--source SCHEMA] [--materialized]")
    views.add_argument(
        "--source", metavar="SCHEMA", default="exporter", help="exporter, exporter-json or jaeger: whose tables"
    )
    views.add_argument(
        "--materialized",
        action="store_true",
        help="tables that each insert fills, quicker to ask: of what comes from then on",
    )


def run(options: argparse.Namespace) -> int:
    """Do what ``options`` say; the exit code."""
    if options.action == "clickhouse-views":
        from otel_netmon.cli.query import print_views

        return print_views(options.source, materialized=options.materialized)
    from otel_netmon.cli.query import make_compact, query

    if options.action == "compact":
        return make_compact(options.folder)
    return query(
        options.source, options.question, options.statement, options.run_id, options.steps, as_json=options.json
    )
