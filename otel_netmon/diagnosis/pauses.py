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
    own, _ = window.excess(lambda each: each.own)
    gc, _ = window.excess(lambda each: each.gc)
    count, seconds, in_gc = {}, {}, {}
    for rank in window.ranks:
        # The collector may run on any thread, and then hold the lock that the training wants.
        collected = gc[rank] if len(gc[rank]) == len(own[rank]) else [0.0] * len(own[rank])
        outliers = [
            (max(late, paused), paused) for late, paused in zip(own[rank], collected, strict=True)
            if max(late, paused) > least
        ]  # fmt: skip
        count[rank] = len(outliers)
        seconds[rank] = sum(late for late, _ in outliers)
        in_gc[rank] = sum(paused for _, paused in outliers)
    if len(count) < 2:
        return []
    rank = max(seconds, key=seconds.__getitem__)
    others = max(number for other, number in count.items() if other != rank)
    share = seconds[rank] / (window.duration * len(steps))
    if (
        count[rank] < limit.PAUSES
        or count[rank] < limit.PAUSES_RATIO * max(1, others)
        or share <= limit.PAUSES_COST
        or count[rank] >= len(steps) / 2
    ):
        return []
    each = seconds[rank] / count[rank]
    cause = Cause.GC if in_gc[rank] > seconds[rank] / 2 else Cause.UNKNOWN
    why = "in its garbage collector" if cause is Cause.GC else "and not in its garbage collector"
    return [
        Finding(
            Kind.PAUSES,
            f"Rank {rank} pauses again and again: in {count[rank]} of {len(steps)} steps for {1e3 * each:.0f} ms, "
            f"{why}; no other rank more than {others} times.",
            ranks=(rank,),
            hosts=hosts_of(evidence.hosts, (rank,)),
            cause=cause,
            first_step=steps[0],
            last_step=steps[-1],
            lost=seconds[rank] / len(steps),
            lost_rank_seconds=seconds[rank] / len(steps) * len(window.ranks),
            confidence=Confidence.HIGH if count[rank] >= 2 * limit.PAUSES and others == 0 else Confidence.MEDIUM,
            facts=(
                Fact("pauses", float(count[rank]), float(others), ""),
                Fact("length of a pause", each, None, "s"),
            ),
            weight=seconds[rank],
        )
    ]
