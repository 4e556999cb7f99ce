"""The first collective of a group that did not end everywhere."""

from __future__ import annotations

from dataclasses import dataclass

from otel_netmon.diagnosis.evidence import DEFAULT_GROUP, CallSeen, Evidence


@dataclass(frozen=True)
class Stuck:
    """Of one group; ``unended`` by rank, those in which it failed or has not ended."""

    group: str
    sequence: int
    members: frozenset[int]
    unended: dict[int, CallSeen]
    waited: float
    """Seconds for which some rank waited in it, by its own clock."""
    failed: bool

    @property
    def name(self) -> str:
        operation = next(iter(self.unended.values())).operation
        return f"{operation} number {self.sequence}" + (
            "" if self.group == DEFAULT_GROUP else f" of group {self.group}"
        )


def stuck_in(evidence: Evidence, group: str) -> Stuck | None:
    by_rank = evidence.calls[group]
    unended: dict[tuple[int, int], CallSeen] = {}
    for rank, calls in by_rank.items():
        # One that failed, and that the training survived, is history.
        past = max(
            (number for number, call in calls.items() if call.end is not None and call.error is None), default=-1
        )
        unended.update(
            ((number, rank), call)
            for number, call in calls.items()
            if number > past and (call.end is None or call.error is not None)
        )
    if not unended:
        return None
    first = min(sequence for sequence, _ in unended)
    at = {rank: call for (sequence, rank), call in unended.items() if sequence == first}
    waited = max(
        ((evidence.last_sign.get(rank, call.start) if call.end is None else call.end) - call.start) / 1e9
        for rank, call in at.items()
    )
    everyone = group == DEFAULT_GROUP or evidence.group_sizes.get(group) == evidence.world_size
    return Stuck(
        group,
        first,
        frozenset(range(evidence.world_size or 0)) if everyone else frozenset(by_rank),
        at,
        waited,
        any(call.error is not None for call in at.values()),
    )
