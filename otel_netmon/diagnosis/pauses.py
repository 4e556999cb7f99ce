"""Does one rank pause again and again? Pauses are outliers: medians over a window do not see them."""

from __future__ import annotations

from collections.abc import Mapping

from otel_netmon.diagnosis import thresholds as limit
from otel_netmon.diagnosis.evidence import Evidence
from otel_netmon.diagnosis.finding import Cause, Confidence, Fact, Finding, Kind, hosts_of
from otel_netmon.diagnosis.statistics import Window, rest_of, standing_out


def find(evidence: Evidence, steps: list[int]) -> list[Finding]:
    """Ranks that pause far more often than all others."""
    if len(steps) < limit.WINDOW:
        return []
    window = Window(evidence, steps)
    least = max(limit.PAUSE_SECONDS, limit.PAUSE_SHARE * window.duration)
    late, collected = window.compare("own").outliers(least), window.compare("gc").outliers(least)
    outliers = {
        # The collector may run on any thread, and then hold the lock that the training wants.
        rank: {place: max(late[rank].get(place, 0.0), collected[rank].get(place, 0.0)) for place in places}
        for rank in late.keys() | collected.keys()
        if (places := late[rank].keys() | collected[rank].keys())
    }
    if len(window.ranks) < 2:
        return []
    found = []
    counts = {rank: len(of) for rank, of in outliers.items()}
    named = standing_out(counts, len(window.ranks))
    for rank, others in named.items():
        share = sum(outliers[rank].values()) / (window.duration * len(steps))
        if limit.PAUSES <= counts[rank] < len(steps) / 2 and share > limit.PAUSES_COST:
            found.append(
                _finding(window, rank, outliers[rank], sum(collected[rank].values()), (rest_of(named), others))
            )
    return found


def _finding(
    window: Window, rank: int, outliers: Mapping[int, float], collected: float, rest: tuple[str, int]
) -> Finding:
    steps, hosts = window.steps, window.evidence.hosts
    count, seconds = len(outliers), sum(outliers.values())
    cause = Cause.GC if collected > seconds / 2 else Cause.UNKNOWN
    why = "in its garbage collector" if cause is Cause.GC else "and not in its garbage collector"
    return Finding(
        Kind.PAUSES,
        f"Rank {rank} pauses again and again: in {count} of {len(steps)} steps for {1e3 * seconds / count:.0f} "
        f"ms, {why}; {rest[0]} more than {rest[1]} times.",
        ranks=(rank,),
        hosts=hosts_of(hosts, (rank,)),
        cause=cause,
        first_step=steps[min(outliers)],
        last_step=steps[max(outliers)],
        lost=seconds / len(steps),
        lost_rank_seconds=seconds / len(steps) * len(window.ranks),
        confidence=Confidence.HIGH if count >= 2 * limit.PAUSES and not rest[1] else Confidence.MEDIUM,
        facts=(
            Fact("pauses", float(count), float(rest[1]), ""),
            Fact("length of a pause", seconds / count, None, "s"),
        ),
        weight=seconds,
    )
