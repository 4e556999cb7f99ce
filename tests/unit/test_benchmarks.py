"""The table of ``make bench``: every row is on its page, and what is said of the figures is right."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.measuring import Line, ratio, spread, turns
from benchmarks.rows import ROWS
from tests.installed import ROOT


def test_the_page_names_every_row() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    assert [row for row in ROWS if f"| `{row}` |" not in page] == []


def test_a_row_that_does_not_exist_is_named_beside_those_that_do() -> None:
    command = [sys.executable, "-m", "benchmarks", "moon"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "there is no row moon" in done.stderr
    assert "steps" in done.stderr


def test_the_smallest_row_runs() -> None:
    command = [sys.executable, "-m", "benchmarks", "collection", "--tiny", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=160)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"measured"') >= 2


def test_the_collector_is_measured(binary: Callable[[str], str]) -> None:
    command = [sys.executable, "-m", "benchmarks", "collector", "--tiny", "--json"]
    environ = {**os.environ, "OTEL_NETMON_TEST_BIN": str(Path(binary("otelcol")).parent)}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=160, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count('"measured"') >= 5


def test_without_a_collector_it_says_so_and_measures_nothing() -> None:
    command = [sys.executable, "-m", "benchmarks", "collector", "--tiny"]
    environ = {**os.environ, "PATH": "/nowhere", "OTEL_NETMON_TEST_BIN": ""}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=160, env=environ)
    assert done.returncode == 0 and "no otelcol on PATH" in done.stdout, done.stdout + done.stderr


def test_the_order_turns_round_and_neighbours_are_compared() -> None:
    order: list[str] = []

    def called(name: str) -> float:
        order.append(name)
        return 1.0

    found = turns({"a": lambda: called("a"), "b": lambda: called("b")}, 2)
    assert order == ["a", "b", "b", "a"]
    assert found == {"a": [1.0, 1.0], "b": [1.0, 1.0]}
    same = ratio([1.0, 2.0, 4.0], [1.1, 2.2, 4.4])
    assert same.median == pytest.approx(1.1)
    noisy = ratio([1.0, 1.0, 1.0, 1.0], [0.9, 1.0, 1.1, 1.3])
    assert noisy.low < noisy.median < noisy.high


def test_what_is_not_measured_meets_nothing() -> None:
    assert Line("x", most=1.0).met is None
    assert Line("x", measured=spread([2.0]), most=1.0).met is False
    line = Line("x", "us", spread([1.0, 2.0]), most=3.0)
    assert line.met is True
    assert Line.of({"row": "y", **line.to_dict()}) == line
