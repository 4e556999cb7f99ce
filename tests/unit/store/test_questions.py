"""SQL over files: rows are the records that are read, from JSON lines or compacted; and what is asked of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from otel_netmon.analysis.questions import QUESTIONS, Asked, Only, question
from otel_netmon.analysis.summary import summarise
from otel_netmon.cli.query import table
from otel_netmon.store import sql
from otel_netmon.store.engine import Answer, EngineError
from otel_netmon.store.problems import Problems
from otel_netmon.store.reader import read
from tests.unit.analysis.synthetic import write_metrics, write_run
from tests.unit.store.test_sql import PYTHON, columns_of

ROOT = Path(__file__).parents[3]
ANSWERS = """
import json, sys
from otel_netmon.analysis.questions import opened
folder, queries = json.load(sys.stdin)
with opened(folder) as asked:
    print(json.dumps({"about": asked.about, "answers": [[*asked.ask(query).dicts()] for query in queries]}))
"""


def ran(*arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    """By a Python that has chDB, in a process of its own: the engine never shares one with what else is tested."""
    done = subprocess.run(
        [PYTHON, *arguments], input=said, capture_output=True, text=True, timeout=170, cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    if "needs chDB" in done.stderr:
        pytest.skip("needs chDB: pip install chdb-core (or CHDB_PYTHON=a Python that has it and this package)")
    return done


def netmon(*arguments: str | Path) -> str:
    done = ran("-m", "otel_netmon.cli", *map(str, arguments))
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def answers(folder: Path | str, *queries: str) -> tuple[str, list[list[dict[str, Any]]]]:
    done = ran("-c", ANSWERS, said=json.dumps([str(folder), queries]))
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout)
    return said["about"], said["answers"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Steps with spans and steps without, metrics, and a rank that is 20 ms late."""
    run = tmp_path / "a run's {files} *"
    run.mkdir()
    write_run(run, monkeypatch, late=lambda _, rank: 20.0 * (rank == 2), every=2, traces=lambda rank: rank != 3)
    write_metrics(run)
    return run


def with_spans(folder: Path) -> Path:
    """A file of a rank whose collectives have spans."""
    return next(path for path in folder.glob("traces-*.jsonl") if '"all_reduce"' in path.read_text())


def test_rows_are_the_records_that_are_read(folder: Path) -> None:
    expected: dict[type[Any], list[Any]] = {cls: [] for cls in sql.TABLES.values()}
    for path in folder.glob("*.jsonl"):
        for record in read(path, Problems()):
            expected[type(record)].append(json.loads(json.dumps(columns_of(record))))
    assert all(
        len(expected[cls]) > 10 for cls in (sql.TABLES[name] for name in ("collectives", "steps", "points"))
    )
    queries = [f"SELECT * FROM {name}" for name in sql.TABLES]
    about, lines = answers(folder, *queries)
    assert about == "JSON lines"
    netmon("compact", folder)
    about, parquet = answers(folder, *queries)
    assert about == "Parquet files"
    for name, from_lines, from_parquet in zip(sql.TABLES, lines, parquet, strict=True):
        wanted = sorted(expected[sql.TABLES[name]], key=json.dumps)
        assert sorted(from_lines, key=json.dumps) == wanted, name
        assert sorted(from_parquet, key=json.dumps) == wanted, name


def test_each_question_has_the_same_answer_from_lines_and_compacted(folder: Path) -> None:
    said = {name: netmon("query", folder, name) for name in QUESTIONS}
    netmon("compact", folder)
    assert {name: netmon("query", folder, name) for name in QUESTIONS} == said
    assert "all_reduce" in said["ops"] and len(said["steps"].splitlines()) > 10


@pytest.mark.parametrize("every", [1, 3])  # of other steps there are no spans
def test_who_came_last_and_what_that_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int) -> None:
    write_run(tmp_path, monkeypatch, late=lambda _, rank: 20.0 * (rank == 2), every=every, traces=lambda _: True)
    (found,) = json.loads(netmon("query", tmp_path, "late", "--json"))
    # In all steps but the first, and the three others waited.
    assert (found["rank"], found["last_in"], found["in_steps"]) == (2, 29, 29)
    assert found["caused_s"] == pytest.approx(29 * 0.02) and found["caused_rank_s"] == pytest.approx(3 * 29 * 0.02)
    waiting = summarise(tmp_path).waiting
    assert waiting is not None and waiting.ranks[2].caused == pytest.approx(found["caused_s"])


def test_operations_are_those_of_the_summary(folder: Path) -> None:
    (expected,) = summarise(folder).operations
    (found,) = json.loads(netmon("query", folder, "ops", "--json"))
    assert (found["calls"], found["ranks"], found["failed"]) == (expected.calls, 4, 0)
    assert found["calls"] > expected.spans and found["bytes"] == expected.size and found["only_sums"] == 0
    assert (found["p50_s"], found["p99_s"]) == pytest.approx((expected.p50, expected.p99))
    for column, value in (("algbw_bytes_per_s", expected.algbw), ("busbw_bytes_per_s", expected.busbw)):
        assert found[column] == pytest.approx(value) and value is not None


def test_some_steps_of_a_run_alone(folder: Path) -> None:
    def steps(*only: str) -> list[int]:
        return sorted({row["step"] for row in json.loads(netmon("query", folder, "steps", "--json", *only))})

    assert steps("--steps", "4:6") == [4, 5, 6] and steps("--steps", "28:") == [28, 29]
    assert steps("--steps", "7:7") == [7]
    assert steps("--run", "another") == []
    counted = "SELECT count() AS n FROM collectives"
    assert json.loads(netmon("query", folder, "sql", counted, "--steps", "4:6", "--json")) == [{"n": 6}]


def test_damaged_lines_are_counted_and_cost_no_others(folder: Path) -> None:
    path = with_spans(folder)
    whole = path.read_bytes()
    path.write_bytes(b'{"resourceSpans": [}\n\n' + whole + whole[:200])
    assert "2 lines could not be read" in netmon("compact", folder)
    about, ((counted,),) = answers(folder, "SELECT count() AS n FROM collectives")
    assert about == "Parquet files" and counted["n"] == 45


def test_what_was_compacted_is_not_asked_once_there_is_more(folder: Path) -> None:
    netmon("compact", folder)
    path = with_spans(folder)
    path.write_bytes(path.read_bytes() * 2)
    about, ((counted,),) = answers(folder, "SELECT count() AS n FROM collectives")
    assert about == "JSON lines" and counted["n"] == 60
    netmon("compact", folder)
    assert answers(folder, "SELECT 1")[0] == "Parquet files"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere", "ops"], "nowhere does not exist"),
        ([".", "opps"], "give one of ops, late, exposed, links, steps, or sql and a SELECT in quotes; not 'opps'"),
        ([".", "sql"], "give one of ops"),
        ([".", "ops", "SELECT 1"], "give one of ops"),
        (
            ["mysql://here", "ops"],
            "mysql:// is no database that is known here: give clickhouse:// or clickhouses://",
        ),
        ([".", "ops", "--steps", "x:y"], "'x:y' is not A:B, two numbers of steps with A <= B"),
    ],
)
def test_what_cannot_be_asked_is_said_in_a_sentence(arguments: list[str], sentence: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "otel_netmon.cli", "query", *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and sentence in done.stderr and "Traceback" not in done.stderr


def test_a_query_that_is_none_is_refused_in_a_sentence(folder: Path) -> None:
    done = ran("-m", "otel_netmon.cli", "query", str(folder), "sql", "SELECT nothing FROM collectives")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "nothing" in done.stderr


def test_without_the_engine_it_is_said_how_to_get_it(folder: Path) -> None:
    code = "import sys; sys.modules['chdb'] = None; from otel_netmon.cli import main; sys.exit(main(sys.argv[1:]))"
    for command in ["query", str(folder), "ops"], ["compact", str(folder)]:
        done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and "pip install 'otel-netmon[analyze]'" in done.stderr
    assert not [path for path in folder.iterdir() if path.suffix != ".jsonl"]


class Engine:
    """Takes queries down."""

    def ask(self, query: str) -> Answer:
        raise EngineError(query)

    def run(self, statement: str) -> None:
        raise AssertionError

    def close(self) -> None:
        raise AssertionError


def test_tables_come_before_the_queries_own_ones() -> None:
    asked = Asked(Engine(), lambda name: f"all {name}", "a test")
    assert asked.full("SELECT 1") == "SELECT 1"
    assert asked.full("-- why\nWITH a AS (SELECT 1 FROM steps) SELECT * FROM a") == (
        "WITH steps AS (all steps),\na AS (SELECT 1 FROM steps) SELECT * FROM a"
    )
    only = asked.full("SELECT * FROM peers", Only("it's", range(3, 6)))
    assert only.startswith(
        "WITH steps AS (SELECT * FROM (all steps) WHERE run_id = 'it\\'s' AND step BETWEEN 3 AND 5),\npeers"
    )
    for name in QUESTIONS:
        assert "{" not in question(name)


def test_values_have_their_units() -> None:
    answer = Answer(
        ("rank", "p50_s", "io_bytes_per_s", "size", "left_share"), [[1, 0.5, 2e9, 7, 0.25], [2, *[None] * 4]]
    )
    block = table(answer)
    assert block.headers == ("rank", "p50", "io", "size", "left")
    assert block.rows == (("1", "500 ms", "2.00 GB/s", "7", "25%"), ("2", "-", "-", "-", "-"))


RECORDS = """
import json, sys
from otel_netmon.analysis.questions import Only, opened
from otel_netmon.analysis.summary import Recorded, summarise
with opened(sys.argv[1]) as asked:
    summary = summarise(Recorded(sys.argv[1], asked.records(Only(*sys.argv[2:]))))
print(json.dumps(summary.to_dict()))
"""


def test_a_summary_of_rows_is_that_of_the_files(folder: Path) -> None:
    expected = json.loads(json.dumps(summarise(folder).to_dict()))
    done = ran("-c", RECORDS, str(folder))
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    for name in ("files", "size"):
        del expected[name], found[name]
    assert found == expected
    nothing = ran("-c", RECORDS, str(folder), "another run")
    assert "holds no telemetry of that run" in nothing.stderr
