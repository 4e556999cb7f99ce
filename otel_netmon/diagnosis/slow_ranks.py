"""Is a rank slow by its own doing?

A synchronising collective ends everywhere at about the same time. A short wait in it means: came late, *or* left
the one before late, *or* is served early by a slow link. Only the first is the rank's own doing, and then the time
in which it has no collective in flight is longer than the others', on its own clock. So that names it, and never
the shortest wait. Where transfers overlap with the computation, it is the time until the last collective is on its
way that is longer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from otel_netmon import semconv
from otel_netmon.diagnosis import thresholds as limit
from otel_netmon.diagnosis.finding import Cause, Confidence, Fact, Finding, Kind, hosts_of, names
from otel_netmon.diagnosis.medians import known, median, standard_score
from otel_netmon.diagnosis.statistics import Quantity, Window

_SOME: Final = 16
"""Ranks that tell what is usual."""
_SLACK = 6_000_000_000
"""Readings of a host's counters lie up to so many nanoseconds before and behind a window."""


def find(window: Window) -> list[Finding]:
    """Ranks that wait for a CPU, and ranks that are slow, over the steps of ``window``."""
    starved = _starved(window)
    named = {rank for each in starved for rank in each.ranks}
    slow = [each for each in _slow(window) if each.rank not in named]
    named |= {each.rank for each in slow}
    late = [each for each in _late(window) if each.rank not in named]
    return starved + _by_host(window, slow + late)


def throttled(window: Window, rank: int) -> float | None:
    """Seconds a second for which the rank's cgroup was stopped by its quota: from its steps, or else from the
    counters of its host."""
    own = [(table.throttled[rank], table.duration[rank]) for table in window.tables if rank in table]
    if stopped := known(time for time, _ in own):
        return sum(stopped) / sum(duration for time, duration in own if time == time)  # noqa: PLR0124 - NaN is not
    first, last = window.span(rank)
    host = window.evidence.hosts.get(rank, "")
    return window.evidence.growth(host, semconv.CGROUP_THROTTLED.name, first - _SLACK, last + _SLACK)


def are_throttled(window: Window, hosts: Collection[str]) -> bool:
    """Whether a quota stops a rank of these hosts, and much more than it does others."""
    inside: list[float] = []
    outside: list[float] = []
    for rank in window.ranks:
        if window.evidence.hosts.get(rank) in hosts:
            inside.append(throttled(window, rank) or 0.0)
        elif len(outside) < _SOME:
            outside.append(throttled(window, rank) or 0.0)
    usual = median(outside) if outside else 0.0
    return max(inside, default=0.0) > max(limit.THROTTLED, limit.THROTTLED_RATIO * usual)


def _starved(window: Window) -> list[Finding]:
    queued, late = window.compare("run_queue"), window.compare("own")
    found = []
    for rank in queued.above(limit.QUOTA_SHARE * window.duration):
        excess, baseline = queued.excess(rank), queued.baseline(rank)
        waits = baseline + median(excess)
        steps = sum(each > 0 for each in excess) / len(excess)
        quota = throttled(window, rank)
        is_stopped = quota is not None and quota > limit.QUOTA and steps >= limit.QUOTA_STEPS
        is_starved = median(excess) > limit.STARVED_SHARE * window.duration and steps >= limit.STARVED_STEPS
        if not is_stopped and not (is_starved and waits > limit.STARVED_RATIO * baseline):
            continue
        cause = Cause.QUOTA if quota is not None and quota > limit.THROTTLED else Cause.CONTENTION
        lost = max(0.0, median(late.excess(rank) or (0.0,)))
        facts = [Fact("time in the run queue", waits, baseline, "s/step")]
        if quota is not None:
            facts.append(Fact("time throttled", quota, None, "s/s"))
        found.append(
            Finding(
                Kind.STARVED,
                f"Rank {rank} waits {1e3 * waits:.0f} ms of each step for a CPU, the others {1e3 * baseline:.0f} "
                f"ms: {_who_has_the_cpu(cause, quota)}.",
                ranks=(rank,),
                hosts=hosts_of(window.evidence.hosts, (rank,)),
                cause=cause,
                first_step=_since(window, rank, excess, median(excess) / 2),
                lost=lost,
                lost_rank_seconds=lost * len(window.ranks),
                confidence=Confidence.HIGH if waits > 2 * limit.STARVED_RATIO * baseline else Confidence.MEDIUM,
                facts=tuple(facts),
                weight=max(lost, median(excess)),
            )
        )
    return found


def _who_has_the_cpu(cause: Cause, quota: float | None) -> str:
    if cause is Cause.QUOTA:
        return f"a CPU quota stops its cgroup for {quota or 0:.2f} s of each second, summed over CPUs"
    known = "no quota stops it" if quota is not None else "whether a quota stops it is not known"
    return f"other threads have the CPU; {known}"


def _since(window: Window, rank: int, excess: list[float], least: float) -> int:
    """The first step from which on it exceeds ``least`` in four of five steps of the window."""
    numbers = [number for number, table in zip(window.steps, window.tables, strict=True) if rank in table]
    over = [value > least for value in excess]
    for place in range(len(over)):
        if over[place] and sum(over[place:]) >= 0.8 * (len(over) - place):
            return numbers[place]
    return window.steps[0]


@dataclass(frozen=True)
class _Slow:
    """A rank that is late by so many seconds of each step, and why."""

    rank: int
    seconds: float
    baseline: float
    score: float
    since: int
    cause: Cause
    parts: tuple[Fact, ...]
    what: str


def _slow(window: Window) -> list[_Slow]:
    return _above(window, "running", limit.SLOW_SHARE, "own time")


def _late(window: Window) -> list[_Slow]:
    """A rank may also have waited for collectives before it issued the last one, for those of a slow link say: one
    that is late by itself waits no longer than others."""
    late = _above(window, "issued", limit.LATE_SHARE, "time until its last collective is issued")
    waited = window.compare("waited")
    return [each for each in late if median(waited.excess(each.rank) or (0.0,)) < each.seconds / 2]


def _above(window: Window, quantity: Quantity, share: float, what: str) -> list[_Slow]:
    compared = window.compare(quantity)
    found = []
    for rank in compared.above(max(limit.SLOW_SECONDS, share * window.duration)):
        excess = compared.excess(rank)
        seconds = median(excess)
        steps = sum(each > limit.SLOW_LEAST * seconds for each in excess) / len(excess)
        score = standard_score(excess)
        if len(excess) < max(limit.MIN_STEPS, len(window.steps) / 2):
            continue  # known of too few steps
        if score > limit.SLOW_Z and steps >= limit.SLOW_STEPS:
            cause, parts = cause_in(window, rank, seconds)
            since = _since(window, rank, excess, seconds / 2)
            found.append(_Slow(rank, seconds, compared.baseline(rank), score, since, cause, parts, what))
    return found


_CAUSES: Final[dict[Cause, tuple[str, Quantity]]] = {
    Cause.INPUT: ("data loading", "data"),
    Cause.GC: ("garbage collection", "gc"),
    Cause.COMPUTE: ("CPU time", "cpu"),
}


def cause_in(window: Window, rank: int, seconds: float) -> tuple[Cause, tuple[Fact, ...]]:
    """Which of the readings is up by more than half of what the rank is late by."""
    facts, cause, unknown = [], None, False
    for candidate, (name, quantity) in _CAUSES.items():
        compared = window.compare(quantity)
        more = compared.excess(rank)
        if not more:
            unknown = True
            continue
        excess, baseline = median(more), compared.baseline(rank)
        facts.append(Fact(name, baseline + excess, baseline, "s/step"))
        if cause is None and excess > seconds / 2:
            cause = candidate
    return cause or (Cause.UNKNOWN if unknown else Cause.OFF_CPU), tuple(facts)


_BECAUSE = {
    Cause.INPUT: "its data loader takes that long",
    Cause.GC: "its garbage collector takes that long",
    Cause.COMPUTE: "it computes that much longer on a CPU",
    Cause.OFF_CPU: "neither its data loader, nor its garbage collector, nor a CPU accounts for it",
    Cause.UNKNOWN: "what accounts for it was not recorded",
}


def _by_host(window: Window, slow: list[_Slow]) -> list[Finding]:
    """One finding for each rank, or for a host most of whose ranks are slow together."""
    hosts = window.evidence.hosts
    of: dict[str, list[_Slow]] = defaultdict(list)
    for each in slow:
        of[hosts.get(each.rank, "")].append(each)
    found = []
    for host, some in of.items():
        on_it = [rank for rank in window.ranks if hosts.get(rank) == host]
        together = host and len(some) > 1 and len(some) >= limit.HOST_SHARE * len(on_it)
        if together and len(on_it) < len(window.ranks):
            found.append(_finding(window, some))
        else:
            found.extend(_finding(window, [each]) for each in some)
    return found


def _finding(window: Window, slow: list[_Slow]) -> Finding:
    worst = max(slow, key=lambda each: each.seconds)
    ranks = tuple(sorted(each.rank for each in slow))
    host = f" of host {window.evidence.hosts[worst.rank]}" if len(ranks) > 1 else ""
    causes = {each.cause for each in slow}
    cause = worst.cause if len(causes) == 1 else Cause.UNKNOWN
    because = _BECAUSE[cause] if len(causes) == 1 else "of different causes"
    lost = worst.seconds
    score = min(each.score for each in slow)
    return Finding(
        Kind.SLOW_RANK,
        f"{names(ranks).capitalize()}{host} come{'s' if len(ranks) == 1 else ''} {1e3 * lost:.0f} ms late in each "
        f"step: {worst.what} is {1e3 * (worst.baseline + lost):.0f} ms against {1e3 * worst.baseline:.0f} ms, and "
        f"{because}.",
        ranks=ranks,
        hosts=hosts_of(window.evidence.hosts, ranks),
        cause=cause,
        first_step=min(each.since for each in slow),
        lost=lost,
        lost_rank_seconds=lost * len(window.ranks),
        confidence=Confidence.HIGH if score > 2 * limit.SLOW_Z else Confidence.MEDIUM,
        facts=(Fact(worst.what, worst.baseline + lost, worst.baseline, "s/step"), *worst.parts),
        not_excluded=("more work by design: the ranks' batches and models are not known",)
        if cause in (Cause.COMPUTE, Cause.OFF_CPU, Cause.UNKNOWN)
        else (),
        weight=lost,
    )
