"""`otel-netmon summary`: JSON, plain text, a terminal, and nothing to read."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from otel_netmon.analysis.summary import summarise
from otel_netmon.cli import main
from otel_netmon.report.blocks import blocks, plain
from otel_netmon.report.words import rate, seconds, size, spans
from tests.unit.analysis.synthetic import write_run
from tests.unit.cli.conftest import OTEL_NETMON, Cli
from tests.unit.cli.test_passing_through import read_until, start_on_a_terminal


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "run"
    write_run(path, monkeypatch, late=lambda step, rank: 50.0 * (rank == 2))
    return path


def schema(value: Any) -> Any:
    """The types in ``value``; of a list, those of its first element."""
    if isinstance(value, dict):
        return {key: schema(inner) for key, inner in value.items()}
    return [schema(value[0])] if isinstance(value, list) and value else type(value).__name__


FINDING = {
    **dict.fromkeys(("schema", "first_step", "last_step"), "int"),
    **dict.fromkeys(("kind", "sentence", "cause", "confidence"), "str"),
    **dict.fromkeys(("lost", "lost_rank_seconds", "weight"), "float"),
    **{"ranks": ["int"], "hosts": ["str"], "pairs": "list", "direction": "NoneType", "not_excluded": ["str"]},
    "facts": [{"name": "str", "value": "float", "baseline": "float", "unit": "str"}],
}


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", "--json", str(folder)]) == 0
    assert schema(json.loads(capsys.readouterr().out)) == {
        "schema": "int",
        "ranks": ["int"],
        "world_size": "int",
        "runs": ["str"],
        "silent_ranks": "list",
        "alive": "list",
        "steps": {
            **dict.fromkeys(("count", "traced", "numbered", "timed"), "int"),
            **{"span": "str", "median": "float", "p99": "float"},
        },
        "apart": "NoneType",
        "operations": [
            {
                **dict.fromkeys(("operation", "group", "backend"), "str"),
                **dict.fromkeys(("group_size", "ranks", "calls", "spans", "failed", "unfinished", "size"), "int"),
                "timed": "int",
                **dict.fromkeys(("p50", "p99", "algbw", "busbw"), "float"),
            }
        ],
        "waiting": {
            **dict.fromkeys(("steps", "matched", "unmatched"), "int"),
            "ranks": [
                {"rank": "int", "waited": "float", "share": "float", "waited_for": "int", "caused": "float"},
            ],
        },
        "nics": "list",
        "diagnoses": [
            {"run_id": "str", "ranks": "int", "steps": "int", "findings": [FINDING]},
        ],
        "losses": {
            **dict.fromkeys(("dropped", "missing_spans", "sampled_out"), "NoneType"),
            **dict.fromkeys(("truncated_lines", "corrupt_lines", "bad_records", "skipped_files"), "int"),
        },
        "folder": "str",
        "files": "int",
        "size": "int",
    }


def test_text(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["summary", str(folder)]) == 0
    out = capsys.readouterr().out
    words = " ".join(out.split())
    assert "ranks 4 seen (0-3) of 4 steps 30, median 100 ms, p99 100 ms (train_step spans)" in words
    assert "dropped not reported" in words
    assert "all_reduce 0 gloo 4/4 120 480 MB 60.0 ms 60.0 ms" in words
    assert "2 0 s 0.0% 29 (100%) 1.45 s" in words
    assert "Rank 2 comes 50 ms late in each step" in words
    assert "29 collectives seen on all their ranks in 29 steps, without the first" in words
    assert "NICs not known" in words
    assert out.isascii() and "\x1b" not in out  # no boxes, no colours


def test_absent_is_not_zero_and_problems_are_said(tmp_path: Path) -> None:
    span = {"traceId": "1" * 32, "name": "x", "startTimeUnixNano": "1", "endTimeUnixNano": "2"}
    good = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span, 5]}]}]})
    (tmp_path / "a.jsonl").write_text(f"{good}\nbad\n{{")
    text = " ".join(plain(blocks(summarise(tmp_path))).split())
    for part in (
        "none seen",
        "steps none complete",
        "dropped not reported",
        "none was captured",
        "NICs not known",
    ):
        assert part in text
    assert "1 x line cut off" in text and "1 x corrupt line" in text and "1 x record of a wrong type" in text


def test_on_a_terminal(folder: Path, environment: dict[str, str]) -> None:
    environ = {**environment, "TERM": "xterm", "COLUMNS": "120"}
    process, master = start_on_a_terminal([*OTEL_NETMON, "summary", str(folder)], folder, environ)
    try:
        shown = read_until(master, b"was not recorded")
        assert b"\x1b[1m" in shown  # rich
        assert b"Rank 2 comes 50 ms late" in shown
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_a_reader_that_leaves_early(folder: Path, environment: dict[str, str]) -> None:
    read, write = os.pipe()
    os.close(read)
    process = subprocess.run(
        [*OTEL_NETMON, "summary", str(folder)], env=environment, stdout=write, stderr=subprocess.PIPE, timeout=60
    )
    os.close(write)
    assert (process.returncode, process.stderr) == (141, b"")


def test_nothing_to_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        assert main(["summary", str(path)]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("otel-netmon: ") and err.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["run"], ["run", "--"], ["run", "--bogus", "x"], ["summary"], ["bogus"]])
def test_bad_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and "usage" in err


def test_version_and_help(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = cli("--version").communicate(timeout=60)
    assert out.startswith(b"otel-netmon 0.")
    for action in ("run", "summary", "doctor"):
        assert main([action, "--help"]) == 0
    out_text = capsys.readouterr().out
    assert "summary goes to stderr" in out_text


def test_version_imports_neither_rich_nor_the_analysis(environment: dict[str, str]) -> None:
    code = (
        "import sys; from otel_netmon.cli import main; main(['--version']);"
        "print([m for m in sys.modules if m.startswith(('rich', 'torch', 'otel_netmon.analysis'))])"
    )
    done = subprocess.run(
        [OTEL_NETMON[0], "-c", code], env=environment, capture_output=True, timeout=60, check=True
    )
    assert done.stdout.splitlines()[-1] == b"[]"


def test_figures() -> None:
    assert [seconds(v) for v in (None, 0, 2e-9, 1.234e-5, 0.0123, 61.2, 1234)] == (
        ["-", "0 s", "2 ns", "12.3 us", "12.3 ms", "61.2 s", "1234 s"]
    )
    assert [size(v) for v in (None, 0, 999, 1234, 5.5e6, 1e13)] == [
        "-",
        "0 B",
        "999 B",
        "1.23 kB",
        "5.50 MB",
        "10.0 TB",
    ]
    assert rate(None) == "-" and rate(2e9) == "2.00 GB/s"
    assert spans([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8"
