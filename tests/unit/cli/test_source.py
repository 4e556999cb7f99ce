"""What is said where there is so much to read that an engine pays; nothing elsewhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from otel_netmon.cli import main, source
from otel_netmon.store.compact import FOLDER, MANIFEST, VERSION
from tests.unit.analysis.synthetic import write_run

COMMANDS = ("summary", "diagnose", "report")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "run"
    write_run(path, monkeypatch)
    return path


def said(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """On stderr, by each command."""
    found = []
    for command in COMMANDS:
        assert main([command, str(folder)]) == 0
        found.append(capsys.readouterr().err)
    return found


def test_nothing_on_small_runs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(folder, capsys) == [""] * len(COMMANDS)


@pytest.mark.parametrize("is_installed", [True, False])
def test_a_line_where_there_is_much(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_installed: bool
) -> None:
    monkeypatch.setattr(source, "_MANY", 1000)
    monkeypatch.setattr(source, "find_spec", lambda _name: sys if is_installed else None)
    get = "" if is_installed else "`pip install 'otel-netmon[analyze]'`, then "
    for line in said(folder, capsys):
        assert line.count("\n") == 1 and line.startswith("otel-netmon: ")
        then = f"`otel-netmon compact {folder}` once, and `otel-netmon query {folder} …` answers in seconds\n"
        assert line.endswith(f"kB of telemetry: {get}{then}")


def test_nothing_where_that_was_done(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_MANY", 1000)
    stats = {path.name: path.stat() for path in folder.glob("*.jsonl")}
    sources = {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}
    (folder / FOLDER).mkdir()
    (folder / FOLDER / MANIFEST).write_text(json.dumps({"version": VERSION, "sources": sources}))
    assert said(folder, capsys) == [""] * len(COMMANDS)
