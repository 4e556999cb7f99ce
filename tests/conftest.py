"""What all tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import pytest

ROWS: dict[str, list[dict[str, Any]]] = {}
"""What the tests of each row of the table in docs/reliability.md found."""
BINARIES = "OTEL_NETMON_TEST_BIN"
"""Names a folder with `otelcol` and `jaeger`."""
_folder = os.environ.get(BINARIES)


def pytest_configure(config: pytest.Config) -> None:
    """What the developer has set for OpenTelemetry must not decide a test, nor reach the programs under test."""
    if config.getoption("dist", "no") != "no":
        return  # its workers run the tests, and read the name of the folder first
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        del os.environ[name]


@pytest.fixture(scope="session")
def binary() -> Callable[[str], str]:
    """Path of a server's program; skips the test where there is none."""

    def find(name: str) -> str:
        places = (_folder, os.environ.get("PATH"))
        found = shutil.which(name, path=os.pathsep.join(filter(None, places)))
        if found is None:
            pytest.skip(f"no {name}: put its release binary on PATH or into the folder that {BINARIES} names")
        return found

    return find


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Takes down what a test of a fault found: sent, lost, twice, exit (seconds) and a note."""

    def note(**found: Any) -> None:
        request.node.user_properties.append(("ledger", found))

    return note


def pytest_itemcollected(item: pytest.Item) -> None:
    """What a report takes along, also from the process of another worker."""
    item.user_properties += [("row", mark.args[0]) for mark in item.iter_markers("row")]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" or report.outcome != "passed":
        found: list[Any] = [value for name, value in report.user_properties if name == "ledger"] or [{}]
        for row in (value for name, value in report.user_properties if name == "row"):
            ROWS.setdefault(str(row), []).extend({**one, "outcome": report.outcome} for one in found)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One table of what was lost, and how long the exit took."""
    if not ROWS:
        return
    terminalreporter.section("when things break")
    for fault, found in ROWS.items():
        outcomes = sorted({one["outcome"] for one in found})
        words = [f"{len(found)} {word}" if len(found) > 1 else word for word in outcomes]
        for name in ("sent", "lost", "twice"):
            numbers = [one[name] for one in found if name in one]
            words += [f"{name} {sum(numbers):,}"] if numbers else []
        exits = [one["exit"] for one in found if "exit" in one]
        words += [f"exit {max(exits):.1f} s"] if exits else []
        words += [one["note"] for one in found if "note" in one]
        terminalreporter.write_line(f"{fault}: {', '.join(words)}")
