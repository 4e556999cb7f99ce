"""Does one rank pause again and again? Pauses are outliers: medians over a window do not see them."""

from __future__ import annotations

from otel_netmon.diagnosis import thresholds as limit
from otel_netmon.diagnosis.evidence import Evidence
from otel_netmon.diagnosis.finding import Cause, Confidence, Fact, Finding, Kind, hosts_of
from otel_netmon.diagnosis.statistics import Window


def find(evidence: Evidence, steps: list[int]) -> list[Finding]:
    """The rank that pauses most, if it pauses far more often than any other."""
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
    if not outliers or len(window.ranks) < 2:
        return []
    seconds = {rank: sum(of.values()) for rank, of in outliers.items()}
    rank = max(seconds, key=seconds.__getitem__)
    count = len(outliers[rank])
    others = max((len(of) for other, of in outliers.items() if other != rank), default=0)
    share = seconds[rank] / (window.duration * len(steps))
    if (
        count < limit.PAUSES
        or count < limit.PAUSES_RATIO * max(1, others)
        or share <= limit.PAUSES_COST
        or count >= len(steps) / 2
    ):
        return []
    each = seconds[rank] / count
    cause = Cause.GC if sum(collected[rank].values()) > seconds[rank] / 2 else Cause.UNKNOWN
    why = "in its garbage collector" if cause is Cause.GC else "and not in its garbage collector"
    return [
        Finding(
            Kind.PAUSES,
            f"Rank {rank} pauses again and again: in {count} of {len(steps)} steps for {1e3 * each:.0f} ms, "
            f"{why}; no other rank more than {others} times.",
            ranks=(rank,),
            hosts=hosts_of(evidence.hosts, (rank,)),
            cause=cause,
            first_step=steps[min(outliers[rank])],
            last_step=steps[max(outliers[rank])],
            lost=seconds[rank] / len(steps),
            lost_rank_seconds=seconds[rank] / len(steps) * len(window.ranks),
            confidence=Confidence.HIGH if count >= 2 * limit.PAUSES and others == 0 else Confidence.MEDIUM,
            facts=(
                Fact("pauses", float(count), float(others), ""),
                Fact("length of a pause", each, None, "s"),
            ),
            weight=seconds[rank],
        )
    ]
