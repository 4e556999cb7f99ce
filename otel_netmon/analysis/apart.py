"""Whether the ranks count their steps alike: a step's number is each rank's own count."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Apart:
    """From step ``since`` of rank ``behind`` on, rank ``ahead`` has counted ``steps`` more: one of them did a
    step, or skipped one, that the other did not. Their traces meet all the same."""

    behind: int
    ahead: int
    steps: int
    since: int


def find_apart(traces: Iterable[Mapping[int, int]]) -> Apart | None:
    """What holds at the end, where the ranks are apart there. ``traces``: by rank, its number for a step.

    A step that one rank alone did says nothing.
    """
    found: Apart | None = None
    for low, behind, high, ahead in sorted((_ends(trace) for trace in traces if len(trace) > 1), reverse=True):
        if high == low or (found and (found.behind, found.ahead, found.steps) != (behind, ahead, high - low)):
            break
        found = Apart(behind, ahead, high - low, low)
    return found


def _ends(trace: Mapping[int, int]) -> tuple[int, int, int, int]:
    """The lowest number and its rank, the highest and its: the first rank of several."""
    low, behind = min((number, rank) for rank, number in trace.items())
    high, ahead = max((number, -rank) for rank, number in trace.items())
    return low, behind, high, -ahead
