"""Is a rank late in many steps, though not in nearly all? Its median is often that of the others then."""

from __future__ import annotations

from otel_netmon.diagnosis import thresholds as limit
from otel_netmon.diagnosis.evidence import Evidence
from otel_netmon.diagnosis.finding import Cause, Confidence, Fact, Finding, Kind, hosts_of
from otel_netmon.diagnosis.medians import median
from otel_netmon.diagnosis.slow_ranks import cause_in
from otel_netmon.diagnosis.statistics import Window, rest_of, standing_out


def find(evidence: Evidence, steps: list[int]) -> list[Finding]:
    """Ranks that are late far more often than any other is."""
    if len(steps) < limit.WINDOW:
        return []
    window = Window(evidence, steps)
    least = max(limit.OFTEN_SECONDS, limit.OFTEN_SHARE * window.duration)
    late = window.compare("running").outliers(least)
    found = []
    named = standing_out({rank: len(of) for rank, of in late.items()}, len(window.ranks))
    for rank, others in named.items():
        of = late[rank]
        cost = sum(of.values()) / len(steps)
        is_often = limit.OFTEN_STEPS * len(steps) <= len(of) < limit.SLOW_STEPS * len(steps)
        if is_often and cost > limit.SLOW_SHARE * window.duration:
            found.append(_finding(window, rank, of, (rest_of(named), others), cost))
    return found


def _finding(window: Window, rank: int, late: dict[int, float], rest: tuple[str, int], cost: float) -> Finding:
    steps, seconds = window.steps, median(late.values())
    cause, facts = cause_in(Window(window.evidence, [steps[place] for place in sorted(late)]), rank, seconds)
    return Finding(
        Kind.SLOW_RANK,
        f"Rank {rank} comes late in {len(late)} of {len(steps)} steps, by {1e3 * seconds:.0f} ms of its own time; "
        f"{rest[0]} in more than {rest[1]}.",
        ranks=(rank,),
        hosts=hosts_of(window.evidence.hosts, (rank,)),
        cause=cause,
        first_step=steps[min(late)],
        last_step=steps[max(late)],
        lost=cost,
        lost_rank_seconds=cost * len(window.ranks),
        confidence=Confidence.MEDIUM,
        facts=(Fact("steps in which it is late", float(len(late)), float(rest[1]), ""), *facts),
        not_excluded=("more work by design in those steps",)
        if cause in (Cause.COMPUTE, Cause.OFF_CPU, Cause.UNKNOWN)
        else (),
        weight=sum(late.values()),
    )
