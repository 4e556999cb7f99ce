"""Ranks that count their steps differently, said as it is at the end."""

from __future__ import annotations

from otel_netmon.analysis.apart import Apart, find_apart
from otel_netmon.report.blocks import _apart


def numbers(*traces: tuple[int | None, ...]) -> Apart | None:
    """One tuple per trace: each rank's number for it, ``None`` where it is not in it."""
    return find_apart({rank: step for rank, step in enumerate(of) if step is not None} for of in traces)


def test_alike_is_nothing() -> None:
    assert numbers() is None
    assert numbers((0, 0), (1, 1), (2, 2)) is None
    assert numbers((0, None), (1, None)) is None  # one rank alone


def test_from_where_on_and_by_how_much() -> None:
    assert numbers((0, 0), (1, 1), (2, 2), (None, 3), (None, 4), (3, 5), (4, 6)) == Apart(0, 1, 2, 3)
    assert numbers((0, 0, 0), (1, 1, 2), (2, 2, 3)) == Apart(0, 2, 1, 1)


def test_what_was_made_up_for_is_not_said() -> None:
    assert numbers((0, 0), (1, 2), (3, 3), (4, 4)) is None


def test_only_what_holds_at_the_end() -> None:
    assert numbers((0, 0), (1, 2), (2, 3), (3, 6), (4, 7)) == Apart(0, 1, 3, 3)


def test_the_sentence() -> None:
    assert _apart(Apart(0, 1, 2, 7)).startswith("ranks 0 and 1 are 2 steps apart from step 7 on: ")
