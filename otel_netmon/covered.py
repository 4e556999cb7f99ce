"""How much of a time lies in at least one of some intervals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_NEVER: Final = 1 << 62


def covered(times: Iterable[tuple[int, int]], until: int = _NEVER) -> int:
    """The time before ``until`` that is in at least one of ``times``, from start to end each; in their unit."""
    total, reached = 0, -1 << 63
    for start, end in sorted(times):
        if start >= until:
            break
        last = end if end < until else until
        if last > reached:
            total += last - (start if start > reached else reached)
            reached = last
    return total
