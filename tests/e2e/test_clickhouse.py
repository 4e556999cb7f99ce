"""The Collector's real clickhouse exporter, tables that it makes, and the same questions to them as to the files.

No ClickHouse server: its engine runs in a process (chDB) behind as much of its HTTP interface as is needed.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from otel_netmon.analysis.questions import QUESTIONS
from otel_netmon.store import sql
from tests.e2e.servers import free_ports, server
from tests.installed import ROOT
from tests.unit.store.test_questions import netmon, ran
from tests.unit.store.test_sql import PYTHON

Binary = Callable[[str], str]
PROGRAM = Path(__file__).parent / "programs" / "train.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real job of two ranks, written to files."""
    pytest.importorskip("torch", reason="the job needs torch: pip install torch")
    folder = tmp_path_factory.mktemp("run")
    done = subprocess.run(
        [sys.executable, "-m", "otel_netmon.cli", "run", "--output", str(folder), "--",
         sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(PROGRAM), "30"],
        capture_output=True, text=True, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def database(
    folder: Path, binary: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """What the exporter made of the same telemetry."""
    has = subprocess.run([PYTHON, "-c", "import chdb, clickhouse_connect"], capture_output=True, timeout=60)
    if has.returncode:
        pytest.skip("needs pip install 'otel-netmon[analyze]' (or CHDB_PYTHON=a Python that has it)")
    place = tmp_path_factory.mktemp("clickhouse")
    http, otlp = free_ports(2)
    bridge = [PYTHON, "-m", "tests.e2e.clickhouse_bridge", str(place / "data"), str(http)]
    config = {
        "receivers": {"otlp": {"protocols": {"http": {"endpoint": f"127.0.0.1:{otlp}"}}}},
        "exporters": {
            "clickhouse": {
                "endpoint": f"http://127.0.0.1:{http}",
                "database": "otel",
                "create_schema": True,
                "compress": "none",
                "async_insert": False,
                "sending_queue": {"enabled": False},
                "retry_on_failure": {"enabled": False},
                "timeout": "60s",
            }
        },
        "service": {
            "telemetry": {"metrics": {"level": "none"}},
            "pipelines": {
                signal: {"receivers": ["otlp"], "exporters": ["clickhouse"]}
                for signal in ("traces", "logs", "metrics")
            },
        },
    }
    (place / "config.yaml").write_text(json.dumps(config))
    collector = [binary("otelcol"), "--config", str(place / "config.yaml")]
    about = {"PYTHONPATH": str(ROOT)}
    with server(bridge, [http], place / "bridge.log", about), server(collector, [otlp], place / "otelcol.log", {}):
        for statement in netmon("clickhouse-views", "--materialized").split(";\n"):
            ask(http, statement.rstrip(";\n"))
        for path in sorted(folder.glob("*.jsonl")):
            signal = path.name.partition("-")[0]
            for line in path.read_bytes().splitlines():
                send(f"http://127.0.0.1:{otlp}/v1/{signal}", line)
        yield f"clickhouse://127.0.0.1:{http}/otel"


def ask(port: int, query: str) -> bytes:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/?database=otel", query.encode())
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


def test_every_row_is_the_same(folder: Path, database: str) -> None:
    for name in sql.TABLES:
        columns = "*"
        if name == "points":  # the exporter writes their times in whole seconds
            columns += " REPLACE (intDiv(time, 1000000000) AS time, intDiv(start_time, 1000000000) AS start_time)"
        query = f"SELECT {columns} FROM {name}"
        rows = [
            sorted(json.loads(netmon("query", source, "sql", query, "--json")), key=json.dumps)
            for source in (folder, database)
        ]
        assert rows[0] == rows[1], name
        assert rows[0] or name not in ("collectives", "steps", "points", "exits")


@pytest.mark.parametrize("materialized", [True, False])
def test_the_views_have_the_same_rows(database: str, materialized: bool) -> None:
    port = int(database.rpartition(":")[2].partition("/")[0])
    if not materialized:  # the tables of that name were made before there was anything
        for statement in netmon("clickhouse-views").split(";\n"):
            ask(port, statement.rstrip(";\n").replace(" VIEW netmon_", " VIEW view_"))
    views = "netmon" if materialized else "view"
    for name in sql.TABLES:
        rows = [
            json.loads(netmon("query", database, "sql", f"SELECT * FROM {table} ORDER BY ALL", "--json"))
            for table in (name, f"{views}_{name}")
        ]
        assert rows[0] == rows[1], name
        assert rows[0] or name not in ("collectives", "steps", "points", "exits")


def test_every_question_has_the_same_answer(folder: Path, database: str) -> None:
    said = {name: netmon("query", database, name) for name in QUESTIONS}
    assert said == {name: netmon("query", folder, name) for name in QUESTIONS}
    for name in "ops", "late", "exposed", "steps":
        assert len(said[name].splitlines()) > 2, said[name]


def test_summary_and_verdict_are_those_of_the_files(folder: Path, database: str, tmp_path: Path) -> None:
    (run,) = json.loads(netmon("summary", folder, "--json"))["runs"]

    def said(command: str, *where: str | Path) -> list[str]:
        blocks = netmon(command, *where).split("\n\n")
        # A job so short has two samples of its NICs within a second or two, and the exporter cuts fractions off.
        lines = "\n\n".join(block for block in blocks if not block.startswith("NICs")).splitlines()
        return [line for line in lines if not line.startswith(("  files", "  from"))]

    for command in "summary", "diagnose":
        assert said(command, database, "--run", run) == said(command, folder)
    page = tmp_path / "page.html"
    assert netmon("report", database, "--run", run, "-o", page).strip() == str(page)
    assert "clickhouse://127.0.0.1" in page.read_text()


def test_a_server_that_is_not_there_is_said_in_a_sentence() -> None:
    (port,) = free_ports(1)
    done = ran("-m", "otel_netmon.cli", "query", f"clickhouse://me:secret@127.0.0.1:{port}/otel", "ops")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"clickhouse://127.0.0.1:{port} cannot be asked" in done.stderr and "secret" not in done.stderr
