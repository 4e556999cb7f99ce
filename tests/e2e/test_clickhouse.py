"""The same questions to tables of ClickHouse's as to files. What really writes them: the Collector's clickhouse
exporter, the same with ``json: true``, and Jaeger.

No ClickHouse server: its engine runs in a process (chDB) behind as much of its HTTP interface as is needed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from otel_netmon import schema, semconv
from otel_netmon.analysis.questions import QUESTIONS, question
from otel_netmon.records import PeerTraffic
from otel_netmon.store import sql, unpacked
from otel_netmon.store.layouts import LAYOUTS
from tests.e2e.servers import QUIET, free_ports, jaeger_config, server, spans_in, wait_for
from tests.installed import ROOT
from tests.unit.store.test_questions import answers, netmon, ran
from tests.unit.store.test_sql import PYTHON

Binary = Callable[[str], str]
PROGRAM = Path(__file__).parent / "programs" / "train.py"
EVERY = "3"
"""Of so many steps one has spans, the others log events."""


def job(folder: Path, **environ: str) -> Path:
    """A real job of two ranks, written to files."""
    pytest.importorskip("torch", reason="the job needs torch: pip install torch")
    done = subprocess.run(
        [sys.executable, "-m", "otel_netmon.cli", "run", "--output", str(folder), "--",
         sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(PROGRAM), "30"],
        capture_output=True, text=True, timeout=150, env={**os.environ, **environ},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that says as much as can be."""
    folder = job(tmp_path_factory.mktemp("run"), OTEL_NETMON_TRACE_EVERY=EVERY)
    for path in folder.glob("traces-*.jsonl"):
        lines = path.read_text().splitlines()
        path.write_text("".join(f"{json.dumps(with_peers(json.loads(line)))}\n" for line in lines))
    return folder


def with_peers(message: dict[str, Any]) -> dict[str, Any]:
    """With a reading in each step of a rank: here the ranks are on one host, and have no peers on another."""
    read = PeerTraffic(1, "it's another", 0.5, 2, 10, None, 3, 0, 1e-4, 2e-5, 3e-5, 0.1, None, 0.0, 2**40, 0, 0, 0)
    kinds = {int: "intValue", float: "doubleValue", str: "stringValue"}
    said = [
        {"key": name, "value": {kinds[type(value)]: str(value) if type(value) is int else value}}
        for name, value in schema.attributes(read).items()
    ]
    for group in message["resourceSpans"]:
        for scope in group["scopeSpans"]:
            for span in scope["spans"]:
                if span["name"] == semconv.SPAN_RANK_STEP:
                    event = {"timeUnixNano": span["endTimeUnixNano"], "name": semconv.EVENT_TCP_PEER}
                    span["events"] = [{**event, "attributes": said}]
    return message


class Database(NamedTuple):
    """Tables that were made and filled."""

    url: str
    port: int
    files: Path
    """The same telemetry, as far as it is kept there."""
    source: str
    """For `clickhouse-views --source`."""

    def ask(self, query: str) -> bytes:
        """What the engine says."""
        return ask(self.port, query, self.url.rpartition("/")[2])


@pytest.fixture(scope="module", params=LAYOUTS)
def database(
    request: pytest.FixtureRequest, folder: Path, binary: Binary, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Database]:
    """What a writer made of the job's telemetry."""
    has = subprocess.run([PYTHON, "-c", "import chdb, clickhouse_connect"], capture_output=True, timeout=60)
    if has.returncode:
        pytest.skip("needs pip install 'otel-netmon[analyze]' (or CHDB_PYTHON=a Python that has it)")
    place = tmp_path_factory.mktemp("clickhouse")
    http, otlp, *more = free_ports(4)
    is_jaeger = request.param == "jaeger"
    config = jaeger(http, otlp, *more) if is_jaeger else exporter(http, otlp, as_json="json" in request.param)
    (place / "config.yaml").write_text(json.dumps(config))
    command = [binary("jaeger" if is_jaeger else "otelcol"), "--config", str(place / "config.yaml")]
    name, files = ("jaeger", place / "traces") if is_jaeger else ("otel", folder)
    if is_jaeger:
        files.mkdir()
        for path in folder.glob("traces-*.jsonl"):
            shutil.copy(path, files)
    found = Database(f"clickhouse://127.0.0.1:{http}/{name}", http, files, request.param)
    bridge = [PYTHON, "-m", "tests.e2e.clickhouse_bridge", str(place / "data"), str(http)]
    with server(bridge, [http], place / "bridge.log", {"PYTHONPATH": str(ROOT)}):
        ask(http, f"CREATE DATABASE IF NOT EXISTS {name}", "default")
        with server(command, [otlp], place / "writer.log", QUIET):
            for statement in views(found, "--materialized"):
                found.ask(statement)
            for path in sorted(files.glob("*.jsonl")):
                signal = path.name.partition("-")[0]
                for line in path.read_bytes().splitlines():
                    send(f"http://127.0.0.1:{otlp}/v1/{signal}", line)
            if is_jaeger:  # it accepts first, and writes then
                count = len(spans_in(files.glob("*.jsonl")))
                wait_for(lambda: int(found.ask("SELECT count() FROM spans FORMAT TSV")), lambda had: had == count)
            yield found


def views(of: Database, *more: str) -> list[str]:
    """The statements that make them."""
    said = netmon("clickhouse-views", "--source", of.source, *more)
    return [statement.rstrip(";\n") for statement in said.split(";\n")]


def exporter(http: int, otlp: int, *, as_json: bool) -> dict[str, Any]:
    """A collector with the exporter alone."""
    about = {
        "endpoint": f"http://127.0.0.1:{http}",
        "database": "otel",
        "create_schema": True,
        "json": as_json,
        "compress": "none",
        "async_insert": False,
        "sending_queue": {"enabled": False},
        "retry_on_failure": {"enabled": False},
        "timeout": "60s",
    }
    return {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{otlp}"}}}},
        "exporters": {"clickhouse": about},
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {
                signal: {"receivers": ["otlp"], "exporters": ["clickhouse"]}
                for signal in ("traces", "logs", "metrics")
            },
        },
    }


def jaeger(http: int, otlp: int, *queries: int) -> dict[str, Any]:
    """Jaeger with its store in ClickHouse."""
    config = jaeger_config(otlp, *queries)
    store = {"protocol": "http", "addresses": [f"127.0.0.1:{http}"], "database": "jaeger", "create_schema": True}
    config["extensions"]["jaeger_storage"]["backends"] = {"memory": {"clickhouse": store}}
    config["receivers"]["otlp"]["protocols"] = {"http": {"endpoint": f"127.0.0.1:{otlp}"}}
    return config


def ask(port: int, query: str, database: str) -> bytes:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/?database={database}", query.encode())
    with urllib.request.urlopen(request, timeout=60) as response:
        return bytes(response.read())


def send(url: str, line: bytes) -> None:
    request = urllib.request.Request(url, line, {"Content-Type": "application/json"})
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                assert response.status == 200
                return
        except urllib.error.HTTPError as error:
            assert error.code in (429, 503) and time.monotonic() < deadline, error.read()
            time.sleep(0.2)


TABLES = (*sql.TABLES, *unpacked.NAMES)
NEVER_EMPTY = {"calls_of_steps", "sums_of_steps", "collectives", "steps", "peers", "points", "exits", "heartbeats"}


def test_every_row_is_the_same(database: Database) -> None:
    queries = []
    for name in sql.TABLES:
        columns = "*"
        if name == "points":  # the exporter writes their times in whole seconds
            columns += " REPLACE (intDiv(time, 1000000000) AS time, intDiv(start_time, 1000000000) AS start_time)"
        queries.append(f"SELECT {columns} FROM {name}")
    files, tables = (answers(where, *queries)[1] for where in (database.files, database.url))
    for name, *found in zip(sql.TABLES, files, tables, strict=True):
        rows = [sorted(each, key=lambda row: json.dumps(row, sort_keys=True)) for each in found]
        assert rows[0] == rows[1], name
        assert rows[0] or name not in NEVER_EMPTY or database.source == "jaeger"


@pytest.mark.parametrize("prefix", ["netmon_", "view_"])
def test_the_views_have_the_same_rows(database: Database, prefix: str) -> None:
    if prefix == "view_":  # the tables of the usual name were made before there was anything
        for statement in views(database):
            database.ask(statement.replace(" VIEW netmon_", f" VIEW {prefix}"))
    queries = [f"SELECT * FROM {before}{name} ORDER BY ALL" for name in TABLES for before in ("", prefix)]
    _, found = answers(database.url, *queries)
    for name, asked, viewed in zip(TABLES, found[::2], found[1::2], strict=True):
        assert asked == viewed, name
        assert asked or name not in NEVER_EMPTY or database.source == "jaeger"
    assert found[0] and found[2] and found[4]


def test_every_question_has_the_same_answer(database: Database) -> None:
    queries = [question(name) for name in QUESTIONS]
    files, tables = (answers(where, *queries)[1] for where in (database.files, database.url))
    for name, *rows in zip(QUESTIONS, files, tables, strict=True):
        assert rows[0], name
        for each, other in zip(*rows, strict=True):
            near = {
                name: pytest.approx(value, rel=1e-12) if isinstance(value, float) else value
                for name, value in other.items()
            }  # sums may be in another order
            assert each == near, name


def test_summary_and_verdict_are_those_of_the_files(database: Database, tmp_path: Path) -> None:
    (run,) = json.loads(netmon("summary", database.files, "--json"))["runs"]

    def said(command: str, *where: str | Path) -> list[str]:
        blocks = netmon(command, *where).split("\n\n")
        # A job so short has two samples of its NICs within a second or two, and the exporter cuts fractions off.
        lines = "\n\n".join(block for block in blocks if not block.startswith("NICs")).splitlines()
        return [line for line in lines if not line.startswith(("  files", "  from"))]

    for command in "summary", "diagnose":
        assert said(command, database.url, "--run", run) == said(command, database.files)
    page = tmp_path / "page.html"
    assert netmon("report", database.url, "--run", run, "-o", page).strip() == str(page)
    assert "clickhouse://127.0.0.1" in page.read_text()


def test_a_schema_that_is_not_known_is_said_in_a_sentence() -> None:
    done = ran("-m", "otel_netmon.cli", "clickhouse-views", "--source", "tempo")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "'tempo' is no schema that is known here: give exporter, exporter-json, jaeger" in done.stderr


def test_a_server_that_is_not_there_is_said_in_a_sentence() -> None:
    (port,) = free_ports(1)
    done = ran("-m", "otel_netmon.cli", "query", f"clickhouse://me:secret@127.0.0.1:{port}/otel", "ops")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"clickhouse://127.0.0.1:{port} cannot be asked" in done.stderr and "secret" not in done.stderr
