"""Questions to a run's telemetry, in SQL: the same text whether it lies in files or in a ClickHouse database.

A query names the tables of ``store.sql.TABLES`` and ``store.unpacked.NAMES``. Where they come from is put before
it: Parquet files that ``compact`` wrote, JSON lines, or the tables of a database.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

from otel_netmon import semconv
from otel_netmon.store import json_tables, layouts, sql, unpacked, views
from otel_netmon.store.compact import FOLDER, is_fresh, linked, plainly_named
from otel_netmon.store.engine import SCHEMES, Answer, Engine, EngineError, InProcess, Server, names, text
from otel_netmon.store.files import telemetry_files
from otel_netmon.store.problems import Problems
from otel_netmon.store.reader import Known
from otel_netmon.store.rows import records

QUESTIONS: Final = ("ops", "late", "exposed", "links", "steps")
"""Those that have a query here."""
_OF_STEPS: Final = ("collectives", "peers")
"""Tables whose rows belong to a step by their trace; those of others to a run by their process or their host."""
_NEAR: Final = 60_000_000_000
"""Nanoseconds before and behind a run's steps in which what is said of its hosts is of the run."""
_WITH: Final = re.compile(r"\s*(?:--[^\n]*\n\s*)*WITH\s", re.IGNORECASE)


class Only(NamedTuple):
    """Which steps of which run; ``None``: all."""

    run_id: str | None = None
    steps: range | None = None


class Asked:
    """Somewhere to ask."""

    def __init__(
        self,
        engine: Engine,
        select: Callable[[str], str],
        about: str,
        keep: Callable[[str], None] = lambda _name: None,
    ) -> None:
        """``select`` gives the SELECT of a table; ``about`` says what is asked, for people. ``keep`` is told of a
        table that will be read several times, where that costs much."""
        self._engine = engine
        self._select = select
        self._keep = keep
        self.about = about

    def records(self, only: Only = Only()) -> Iterator[Known]:  # noqa: B008 - a tuple
        """All of it, each series of points in the order of time; raises ``EngineError``. Memory: a table's."""
        for name, cls in sql.TABLES.items():
            answer = self.ask(f"SELECT * FROM {name} ORDER BY {views.order(name)}", only)
            yield from records(cls, answer)

    def ask(self, query: str, only: Only = Only()) -> Answer:  # noqa: B008 - a tuple
        """Run ``query`` over the tables that it names; raises ``EngineError``."""
        return self._engine.ask(self.full(query, only))

    def full(self, query: str, only: Only = Only()) -> str:  # noqa: B008 - a tuple
        """The query with its tables before it."""
        named = {name for name in (*sql.TABLES, *unpacked.NAMES) if re.search(rf"\b{name}\b", query)}
        if named.intersection(unpacked.NAMES):
            named |= unpacked.MADE_OF
            for name in unpacked.MADE_OF:
                self._keep(name)
        if only != Only() and named:
            named.add("steps")
        first = sorted(sql.TABLES, key=lambda name: name != "steps")  # others ask it
        selects = {name: self._table(name, only) for name in first if name in named}
        selects |= {name: unpacked.select(name) for name in unpacked.NAMES if name in named}
        tables = ",\n".join(f"{name} AS ({select})" for name, select in selects.items())
        if not tables:
            return query
        begun = _WITH.match(query)
        return f"WITH {tables},\n{query[begun.end() :]}" if begun else f"WITH {tables}\n{query}"

    def _table(self, name: str, only: Only) -> str:
        select = self._select(name)
        if only == Only():
            return select
        if name == "steps":
            wanted = []
            if only.run_id is not None:
                wanted.append(f"run_id = {text(only.run_id)}")
            if only.steps is not None:
                wanted.append(f"step BETWEEN {only.steps[0]} AND {only.steps[-1]}")
            return f"SELECT * FROM ({select}) WHERE {' AND '.join(wanted)}"
        if name in _OF_STEPS:
            return f"SELECT * FROM ({select}) WHERE trace_id IN (SELECT trace_id FROM steps)"
        # A host's own processes have no rank and tell no run.
        own = "source_instance IN (SELECT source_instance FROM steps)"
        near = f"{'at' if name == 'nics' else 'time'} BETWEEN (SELECT min(start) FROM steps) - {_NEAR}"
        near += f" AND (SELECT max(end) FROM steps) + {_NEAR}"
        host = f"source_rank IS NULL AND source_host IN (SELECT source_host FROM steps) AND {near}"
        return f"SELECT * FROM ({select}) WHERE {own} OR ({host})"


def question(name: str) -> str:
    """The query of one of ``QUESTIONS``."""
    query = resources.files(__package__).joinpath("queries").joinpath(f"{name}.sql").read_text()
    return query.replace("{SYNCHRONISING}", names(sorted(semconv.SYNCHRONISING)))


@contextmanager
def opened(where: str) -> Iterator[Asked]:
    """A folder with files, or the URL of a ClickHouse server. Raises ``FolderError`` and ``EngineError``."""
    scheme = where.partition("://")[0]
    if "://" in where:
        if scheme not in SCHEMES:
            known = " or ".join(f"{each}://" for each in SCHEMES)
            raise EngineError(f"{scheme}:// is no database that is known here: give {known}, or a folder")
        server = Server(where)
        try:
            layout = layouts.found(server)
            yield Asked(server, lambda name: sql.select(sql.TABLES[name], layout), "ClickHouse")
        finally:
            server.close()
        return
    folder = Path(where)
    paths = telemetry_files(folder, Problems())
    staging = tempfile.mkdtemp(prefix="otel-netmon-")
    try:
        engine = InProcess(staging)
        try:
            if is_fresh(folder, paths):
                with plainly_named(folder / FOLDER) as place:
                    yield Asked(engine, lambda name: _parquet(f"{place}/{name}.parquet"), "Parquet files")
            else:
                with linked(paths) as lines:
                    engine.run(json_tables.messages(lines))
                    for name, query in json_tables.TABLES.items():
                        engine.run(f"CREATE VIEW {name} AS {query}")
                    kept = _Kept(engine)
                    yield Asked(engine, kept.select, "JSON lines", kept.keep)
        finally:
            engine.close()
    finally:
        shutil.rmtree(staging, ignore_errors=True)


class _Kept:
    """Tables made of JSON lines. What is kept lies on disk, as the engine's own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._names: set[str] = set()

    def select(self, name: str) -> str:
        """The SELECT of a table."""
        return f"SELECT * FROM kept_{name}" if name in self._names else sql.select(sql.TABLES[name])

    def keep(self, name: str) -> None:
        """Parse its lines now, and once."""
        if name not in self._names:
            made_of = sql.select(sql.TABLES[name])
            self._engine.run(f"CREATE TABLE kept_{name} ENGINE = MergeTree ORDER BY () AS {made_of}")
            self._names.add(name)


def _parquet(path: str) -> str:
    return f"SELECT * FROM file({text(path)}, 'Parquet')"
