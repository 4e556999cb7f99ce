"""Skips the lab where it cannot be built, and prints its table of agreements at the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from . import net

ROWS: list[tuple[str, str, str, str, str]] = []

Agree = Callable[..., None]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if "tests/lab" in str(item.path)]
    reason = net.missing() if here else None
    for item in here:
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def agree(request: pytest.FixtureRequest) -> Agree:
    """Hold a number of ours against another's, and put both into the table.

    ``agree(what, ours, against, theirs, within)``: the share by which they may differ, 0 for exactly.
    """

    def check(what: str, ours: float, against: str, theirs: float, within: float, *, slack: float = 0.0) -> None:
        off = abs(ours - theirs)
        share = off / abs(theirs) if theirs else (0.0 if not off else float("inf"))
        needed = (
            "exact"
            if not within and not slack
            else " or ".join(
                part for part in (f"{slack:g}" if slack else "", f"{within:.0%}" if within else "") if part
            )
        )
        row = (what, f"{ours:.6g}", f"{against}: {theirs:.6g}", f"{share:.2%} off", needed)
        request.node.user_properties.append(("agreement", row))
        assert off <= max(slack, within * abs(theirs)), f"{what}: ours {ours}, {against} {theirs}"

    return check


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call":
        ROWS.extend(value for name, value in report.user_properties if name == "agreement")  # type: ignore[misc]  # any value will do


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not ROWS:
        return
    terminalreporter.section("the lab: our numbers against others'")
    table = [("our number", "ours", "held against", "difference", "allowed"), *ROWS]
    widths = [max(len(row[column]) for row in table) for column in range(5)]
    for row in table:
        terminalreporter.write_line("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))
