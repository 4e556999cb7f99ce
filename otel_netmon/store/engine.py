"""The engine that answers SQL: ClickHouse, in this process (chDB) or as a server."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

from otel_netmon.store.problems import FolderError

SCHEMES: Final = ("clickhouse", "clickhouses")
"""Of the URL of a server, without and with TLS."""
_HTTP: Final = {"clickhouse": "http", "clickhouses": "https"}
_SETTINGS: Final = {
    "max_query_size": 100_000_000,
    "output_format_json_quote_64bit_integers": 0,
    "output_format_json_quote_denormals": 0,
}
_MOST_MEMORY: Final = 2 << 30
_SAID: Final = 600
"""Characters of an engine's error that are passed on."""


class EngineError(FolderError):
    """There is no engine, or it refuses; the message is one sentence for people."""


class Answer(NamedTuple):
    """What a query gives. Numbers are numbers; what is NULL, or no number, is ``None``."""

    columns: tuple[str, ...]
    rows: list[list[Any]]

    def dicts(self) -> Iterator[dict[str, Any]]:
        """Each row by column."""
        return (dict(zip(self.columns, row, strict=True)) for row in self.rows)


class Engine(Protocol):
    """Methods raise ``EngineError`` and nothing else."""

    def ask(self, query: str) -> Answer:
        """Run a query that gives rows."""
        ...

    def run(self, statement: str) -> None:
        """Run one that gives none."""
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...


class InProcess:
    """chDB. One at a time in a process; what it keeps is in ``folder``. At most 2 GiB of memory."""

    def __init__(self, folder: str) -> None:
        try:
            from chdb.session import Session
        except ImportError:
            raise EngineError(
                "needs chDB, which is not installed: pip install 'otel-netmon[analyze]' "
                "(Linux with glibc, or macOS)"
            ) from None
        self._session: Any = Session(folder)
        settings = {**_SETTINGS, "max_memory_usage": _MOST_MEMORY, "max_threads": os.cpu_count() or 1}
        self.run("CREATE DATABASE IF NOT EXISTS otel ENGINE = Atomic")
        self.run("USE otel")
        for name, value in settings.items():
            self.run(f"SET {name} = {value}")

    def ask(self, query: str) -> Answer:
        """Run a query that gives rows."""
        return _answer(self._query(query, "JSONCompact").bytes())

    def run(self, statement: str) -> None:
        """Run one that gives none."""
        self._query(statement, "Null")

    def _query(self, statement: str, as_format: str) -> Any:
        try:
            return self._session.query(statement, as_format)
        except Exception as error:
            raise EngineError(f"ClickHouse's engine refuses: {_in_short(error)}") from error

    def close(self) -> None:
        """End it; its folder is the caller's."""
        self._session.close()


class Server:
    """A ClickHouse server's HTTP interface, by its own client."""

    def __init__(self, url: str) -> None:
        """``clickhouse://user:password@host:port/database``, or ``clickhouses://`` with TLS."""
        try:
            import clickhouse_connect
        except ImportError:
            raise EngineError(
                "needs clickhouse-connect, which is not installed: pip install 'otel-netmon[analyze]'"
            ) from None
        logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())  # what it raises says it all
        parts = urlsplit(url)
        where = f"{_HTTP[parts.scheme]}{url[len(parts.scheme) :]}"
        try:
            self._client: Any = clickhouse_connect.get_client(dsn=where, settings=_SETTINGS)
        except Exception as error:
            shown = f"{parts.scheme}://{parts.hostname or ''}:{parts.port or ''}"
            raise EngineError(f"{shown} cannot be asked: {_in_short(error)}") from error

    def ask(self, query: str) -> Answer:
        """Run a query that gives rows."""
        return _answer(self._guarded(self._client.raw_query, query, fmt="JSONCompact"))

    def run(self, statement: str) -> None:
        """Run one that gives none."""
        self._guarded(self._client.command, statement)

    @staticmethod
    def _guarded(call: Any, *args: Any, **more: Any) -> Any:
        try:
            return call(*args, **more)
        except Exception as error:
            raise EngineError(f"ClickHouse refuses: {_in_short(error)}") from error

    def close(self) -> None:
        """Close its connections."""
        self._client.close()


def _answer(data: bytes) -> Answer:
    said = json.loads(data) if data.strip() else {"meta": (), "data": []}
    return Answer(tuple(column["name"] for column in said["meta"]), said["data"])


def _in_short(error: Exception) -> str:
    said = " ".join(str(error).split())
    return said if len(said) <= _SAID else f"{said[:_SAID]}…"


def text(value: str) -> str:
    """A string as it stands in a query."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def names(values: Sequence[str]) -> str:
    """Strings as a tuple in a query."""
    return f"({', '.join(map(text, values))})"
