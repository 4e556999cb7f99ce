"""How much of the time in collectives a rank worked on, and how much it waited."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

from otel_netmon import semconv
from otel_netmon.analysis.details import Overlap
from otel_netmon.covered import covered
from otel_netmon.records import Call, RankStep

_ROUNDING: Final = 2
"""µs by which a start and the sum of its parts may differ."""


class Overlaps:
    """Takes the records of steps. Memory: some 100 bytes for each rank."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str | None, int], array[float]] = {}
        """By run and rank: steps, in collectives, hidden, waited; and steps that do not tell."""

    def add(self, step: RankStep, rank: int) -> None:
        """A step on one rank; without the first, as everywhere."""
        if step.name != semconv.SPAN_RANK_STEP or not step.step or step.incomplete:
            return
        sums = self._sums.setdefault((step.run_id, rank), array("d", bytes(40)))
        inside, hidden = step.collective_time, _hidden(step)
        if inside is None or hidden is None:
            sums[4] += 1
            return
        hidden = min(hidden, inside)
        blocked = inside if step.issue_time is None else (step.wait_time or 0.0)
        for place, value in enumerate((1, inside, hidden, min(blocked, inside - hidden))):
            sums[place] += value

    def of(self, run: str | None) -> tuple[tuple[Overlap, ...], int]:
        """By rank; and how many steps of ranks do not tell."""
        mine = sorted((rank, sums) for (of, rank), sums in self._sums.items() if of == run)
        return (
            tuple(
                Overlap(rank, int(count), inside, hidden, waited, max(0.0, inside - hidden - waited))
                for rank, (count, inside, hidden, waited, _) in mine
                if count
            ),
            int(sum(sums[4] for _, sums in mine)),
        )


def _hidden(step: RankStep) -> float | None:
    """Seconds until the last asynchronous collective was issued in which one was in flight and the caller was not
    blocked: the least that was overlapped. ``None`` where the calls do not tell."""
    if step.issue_time is None:
        return 0.0  # each call blocked its caller
    calls = step.calls
    if not calls or len(calls) != step.collective_count or any(call.duration is None for call in calls):
        return None
    issued = step.issue_time * 1e6
    last, blocked = _last(calls, issued)
    inside = covered(((call.start, call.start + (call.duration or 0)) for call in calls), last)
    return max(0.0, inside - blocked) / 1e6


def _last(calls: Sequence[Call], issued: float) -> tuple[int, float]:
    """When the last asynchronous call began, and how long its caller was blocked before (µs). Which calls are
    asynchronous is not packed: one that begins when ``issued`` says had none before it that blocked."""
    starts = [call.start for call in calls]
    exact = [start for start in starts if abs(start - issued) <= _ROUNDING]
    return (max(exact), 0.0) if exact else (max(starts), max(0.0, max(starts) - issued))
