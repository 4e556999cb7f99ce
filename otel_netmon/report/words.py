"""Values and findings in words: the same on a terminal and on a page. Pure; ASCII but for names in the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from otel_netmon.diagnosis.finding import Fact, Finding, Kind

MOST_ROWS: Final = 20
"""Rows of a table that are printed; ``--json`` has them all."""
ABSENT: Final = "-"


def spans(ranks: Sequence[int]) -> str:
    """Ascending ranks in brief: ``0-3, 6``."""
    parts: list[list[int]] = []
    for rank in ranks:
        if parts and rank == parts[-1][1] + 1:
            parts[-1][1] = rank
        else:
            parts.append([rank, rank])
    shown = [str(low) if low == high else f"{low}-{high}" for low, high in parts[:MOST_ROWS]]
    return ", ".join(shown) + (", ..." if len(parts) > MOST_ROWS else "")


def seconds(value: float | None) -> str:
    """A time with its unit, in three significant digits."""
    if value is None:
        return ABSENT
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= scale:
            return f"{_three(value / scale)} {unit}"
    return f"{value * 1e9:.0f} ns" if value else "0 s"


def size(value: float | None) -> str:
    """A number of bytes with its decimal unit."""
    if value is None:
        return ABSENT
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{_three(value / scale)} {unit}"
    return f"{value:.0f} B"


def rate(value: float | None) -> str:
    """Bytes per second with their decimal unit."""
    return ABSENT if value is None else f"{size(value)}/s"


def _three(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def counted(number: int, noun: str) -> str:
    """``1 step``, ``2 steps``."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def share(value: float) -> str:
    """A part of 1 in per cent."""
    return f"{value:.1%}" if 0 < abs(value) < 0.0995 else f"{value:.0%}"


def about(finding: Finding) -> str:
    """Kind, cause, culprit, steps, cost and confidence, in one line."""
    parts = [finding.kind.value + (f" ({finding.cause.value})" if finding.cause else "")]
    if finding.hosts:
        parts.append(f"host {' or '.join(finding.hosts)}")
    if finding.direction is not None:
        parts.append(finding.direction.value)
    if finding.first_step is not None and finding.last_step is not None:
        first, last = finding.first_step, finding.last_step
        parts.append(f"step {first}" if first == last else f"steps {first} to {last}")
    if finding.lost:
        waiting = finding.lost_rank_seconds
        each = "" if finding.first_step == finding.last_step else " of each step"
        parts.append(f"costs {seconds(finding.lost)}{each}" + (f", {waiting:.3g} rank-seconds" if waiting else ""))
    if finding.kind is not Kind.NOTHING:
        parts.append(f"confidence {finding.confidence.value}")
    return "; ".join(parts)


def fact(one: Fact) -> str:
    """Its value, and that of the others."""
    value, baseline = (None if each is None else _value(each, one.unit) for each in (one.value, one.baseline))
    return f"{one.name}: {value}" + (f", elsewhere {baseline}" if baseline is not None else "")


def _value(value: float, unit: str) -> str:
    if unit == "By/s":
        return rate(value)
    if unit == "1":
        return f"{100 * value:.2f} %"
    kind, _, per = unit.partition("/")
    if kind == "s":
        return (seconds(value) if value >= 0 else f"-{seconds(-value)}") + (f" per {per}" if per else "")
    return f"{value:g}"
