"""All ranks issued the same collective, and it does not end: the network, a stopped process, or a quota."""

from __future__ import annotations

from collections import Counter

from otel_netmon import semconv
from otel_netmon.diagnosis import thresholds as limit
from otel_netmon.diagnosis.evidence import Evidence
from otel_netmon.diagnosis.finding import Cause, Confidence, Direction, Fact, Finding, Kind, hosts_of, names
from otel_netmon.diagnosis.stuck import Stuck


def find(evidence: Evidence, stuck: Stuck) -> Finding | None:
    """Which of them it is; ``None``: it may still end."""
    return (
        _cut(evidence, stuck)
        or _frozen(evidence, stuck)
        or _stopped_by_quota(evidence, stuck)
        or _unexplained(stuck)
    )


def _cut(evidence: Evidence, stuck: Stuck) -> Finding | None:
    """Every pair of the host backs off, and so it is what most of the pairs have in common."""
    pairs: set[tuple[int | str, int | str]] = set()
    for rank, call in stuck.waiting.items():
        pairs |= {(rank, peer) for peer, at in evidence.backed_off.get(rank, {}).items() if at >= call.start}
    if not pairs:
        return None
    ends = Counter(end for pair in pairs for end in set(pair) if isinstance(end, int))
    most = max(ends.values())
    top = tuple(sorted(rank for rank, count in ends.items() if count == most))
    ranks = top if len(top) == 1 else ()
    who = f"The network of {names(ranks)}" if ranks else f"The network between {names(top)}"
    host = f" (host {evidence.hosts[ranks[0]]})" if ranks and evidence.hosts.get(ranks[0]) else ""
    return Finding(
        Kind.CUT,
        f"{who}{host} is cut: all ranks are in {stuck.name}, which does not end, and "
        f"{len(pairs)} connections wait for acknowledgements that do not come.",
        ranks=ranks,
        hosts=hosts_of(evidence.hosts, ranks),
        direction=Direction.BOTH,
        lost=stuck.waited,
        lost_rank_seconds=None if stuck.waited is None else stuck.waited * len(stuck.members),
        confidence=Confidence.HIGH if ranks and most > 1 else Confidence.LOW,
        facts=(Fact("connections that back off", float(most), float(len(pairs)), ""),),
        not_excluded=("the host itself stopped, if its telemetry ended then, too",),
        weight=1e9,
    )


def _frozen(evidence: Evidence, stuck: Stuck) -> Finding | None:
    members = sorted(stuck.members)
    silent = tuple(rank for rank in members if evidence.silent.get(rank, 0.0) > limit.SILENT_SECONDS)
    silent = silent or tuple(rank for rank in members if _went_still(evidence, rank, stuck))
    if not silent or 2 * len(silent) >= len(stuck.members):
        return None
    return Finding(
        Kind.FROZEN,
        f"{names(silent).capitalize()} stand{'s' if len(silent) == 1 else ''} still: all ranks are in "
        f"{stuck.name}, which does not end, and nothing has been heard since.",
        ranks=silent,
        hosts=hosts_of(evidence.hosts, silent),
        confidence=Confidence.MEDIUM,
        not_excluded=("a host that died or was cut off",),
        facts=stuck.facts,
        lost=stuck.waited,
        weight=1e9,
    )


def _went_still(evidence: Evidence, rank: int, stuck: Stuck) -> bool:
    """Whether a rank's own clock shows hardly any time in the collective that others waited in for long."""
    call = stuck.waiting.get(rank)
    if call is None or call.end is not None or rank in evidence.said_end or stuck.waited is None:
        return False
    return (evidence.waited(rank, call) or 0.0) < stuck.waited - limit.SILENT_SECONDS


def _stopped_by_quota(evidence: Evidence, stuck: Stuck) -> Finding | None:
    metric = semconv.CGROUP_THROTTLED.name
    by = {}
    for rank, call in stuck.waiting.items():
        last = evidence.last_sign.get(rank, call.start)
        grown = evidence.growth(evidence.hosts.get(rank, ""), metric, call.start - 12_000_000_000, last)
        if grown is not None:
            by[rank] = grown
    ordered = sorted(by, key=by.__getitem__)
    if not ordered or by[ordered[-1]] < 0.3 or (len(ordered) > 1 and by[ordered[-1]] < 3 * by[ordered[-2]] + 0.05):
        return None
    rank = ordered[-1]
    return Finding(
        Kind.STARVED,
        f"Rank {rank} gets no CPU: all ranks are in {stuck.name}, and a quota stops its cgroup for "
        f"{by[rank]:.2f} s of each second, summed over CPUs.",
        ranks=(rank,),
        hosts=hosts_of(evidence.hosts, (rank,)),
        cause=Cause.QUOTA,
        lost=stuck.waited,
        facts=(Fact("time throttled", by[rank], by[ordered[-2]] if len(ordered) > 1 else None, "s/s"),),
        weight=1e9,
    )


def _unexplained(stuck: Stuck) -> Finding:
    return Finding(
        Kind.STUCK,
        f"All ranks are in {stuck.name}, which {'failed after waiting' if stuck.failed else 'has not ended'}"
        f"{stuck.after}; no connection backs off and no rank is silent: nobody can be named{stuck.said}.",
        lost=stuck.waited,
        confidence=Confidence.LOW,
        facts=stuck.facts,
        weight=1e9,
    )
