"""Numbers that outliers do not move. NaN is not known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

_RISE = 1.1
"""Times the mean before, below which it is no rise."""


def known(values: Iterable[float]) -> list[float]:
    """Those that are not NaN."""
    return [value for value in values if value == value]  # noqa: PLR0124 - NaN is not


def median(values: Iterable[float]) -> float:
    """NaN of nothing."""
    ordered = sorted(values)
    count = len(ordered)
    if not count:
        return math.nan
    middle = count // 2
    return ordered[middle] if count % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def rise(values: Sequence[float]) -> int:
    """The place from which on values are larger, by where they part best into two of little variance each; 0: they
    do not."""
    count, total = len(values), sum(values)
    squares = sum(value * value for value in values)
    usual = squares - total * total / count if count else 0.0
    best, place, before = 0.5 * usual, 0, 0.0
    for at in range(1, count):
        before += values[at - 1]
        after = total - before
        left = squares - before * before / at - after * after / (count - at)
        if left < best and after / (count - at) > _RISE * before / at:
            best, place = left, at
    return place


def spread(values: Sequence[float]) -> float:
    """The median absolute deviation, scaled to the standard deviation of a normal distribution."""
    middle = median(values)
    return 1.4826 * median(abs(value - middle) for value in values)


def standard_score(values: Sequence[float]) -> float:
    """The median of ``values`` in units of its standard error: 1.2533 sigma / sqrt(n), if they are normal."""
    return median(values) / (1.2533 * spread(values) / math.sqrt(len(values)) + 1e-9)
