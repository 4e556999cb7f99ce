"""What each rank was at when it was last heard of, on the groups on which something hung or failed."""

from __future__ import annotations

from otel_netmon.analysis.details import LastCall
from otel_netmon.diagnosis.evidence import Evidence


def last_calls(evidence: Evidence) -> tuple[LastCall, ...]:
    """Of each rank the first collective that did not end well, or else its last; those furthest behind first."""
    found = []
    for group, ranks in sorted(evidence.calls.items()):
        bad = {
            rank: [number for number, call in calls.items() if call.end is None or call.error is not None]
            for rank, calls in ranks.items()
        }
        if not any(bad.values()):
            continue
        last = {rank: min(bad[rank], default=max(calls)) for rank, calls in ranks.items() if calls}
        for rank, number in sorted(last.items(), key=lambda item: (item[1], item[0])):
            call, is_over = ranks[rank][number], not bad[rank]
            seconds = None if is_over else evidence.waited(rank, call)
            found.append(LastCall(group, rank, number, call.operation, seconds, call.error, is_over=is_over))
    return tuple(found)
