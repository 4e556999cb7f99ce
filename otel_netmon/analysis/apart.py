"""Whether the ranks count their steps alike: a step's number is each rank's own count."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Apart:
    """From step ``since`` of rank ``behind`` on, rank ``ahead`` has counted ``steps`` more: one of them did a
    step, or skipped one, that the other did not. Their traces meet all the same."""

    behind: int
    ahead: int
    steps: int
    since: int


class StepNumbers:
    """Takes the number that each rank gives to a trace; keeps the lowest and the highest of each trace."""

    def __init__(self) -> None:
        self._traces: dict[int, tuple[int, int, int, int]] = {}
        self._several: set[int] = set()
        """Traces that more than one rank is in: a step that one rank alone did says nothing."""

    def add(self, trace: int, rank: int, step: int) -> None:
        """``rank`` calls the step of ``trace`` number ``step``."""
        if trace in self._traces:
            self._several.add(trace)
        low, behind, high, ahead = self._traces.get(trace, (step, rank, step, rank))
        low, behind = min((low, behind), (step, rank))
        if step > high or (step == high and rank < ahead):
            high, ahead = step, rank
        self._traces[trace] = low, behind, high, ahead

    def apart(self) -> Apart | None:
        """What holds at the end, where the ranks are apart there."""
        found: Apart | None = None
        for low, behind, high, ahead in sorted((self._traces[trace] for trace in self._several), reverse=True):
            if high == low:
                break
            if found is not None and (behind, ahead, high - low) != (found.behind, found.ahead, found.steps):
                break
            found = Apart(behind, ahead, high - low, low)
        return found
