"""``diagnose``: the questions in their order.

1. Is anything stuck or broken? Then nothing else explains it.
2. Did one step stand still?
3. Over windows of steps, ranks against ranks, so that no run without a fault is needed to compare with: who waits
   for a CPU, who is slow by its own doing, which link is slow or lossy?
4. Does one rank pause again and again?
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Final

from otel_netmon.diagnosis import broken, network, often_late, pauses, slow_ranks, stops
from otel_netmon.diagnosis import thresholds as limit
from otel_netmon.diagnosis.evidence import Evidence
from otel_netmon.diagnosis.finding import Confidence, Finding, Kind, hosts_of, names
from otel_netmon.diagnosis.statistics import Window

_CLEARLY: Final = 1.5


def diagnose(evidence: Evidence, *, live: bool = False) -> tuple[Finding, ...]:
    """Who is to blame, the costliest first; one finding that says so, if nobody is or if that cannot be told.

    ``live``: only what the last window of steps shows. Pure. Cost: some 15 µs for each rank's step and window.
    """
    stuck = broken.find(evidence)
    steps = evidence.common_steps(limit.FIRST_STEP)
    found = [] if len(steps) < limit.MIN_STEPS else _over_steps(evidence, steps, live)
    if stuck:
        return *stuck, *found
    found += _silent(evidence)
    if found:
        return tuple(found)
    return (_none(evidence, steps),)


def _silent(evidence: Evidence) -> list[Finding]:
    silent = [rank for rank, seconds in evidence.silent.items() if seconds > limit.LOST_SECONDS]
    if not silent or 2 * len(silent) >= len(evidence.hosts):
        return []
    longest = max(evidence.silent[rank] for rank in silent)
    return [
        Finding(
            Kind.SILENT,
            f"{names(silent).capitalize()} {'has' if len(silent) == 1 else 'have'} said nothing for "
            f"{longest:.0f} s, though no collective fails or hangs.",
            ranks=tuple(silent),
            hosts=hosts_of(evidence.hosts, silent),
            confidence=Confidence.LOW,
            not_excluded=("that its telemetry alone stopped",),
        )
    ]


def _over_steps(evidence: Evidence, steps: list[int], live: bool) -> list[Finding]:
    last = steps[-limit.WINDOW :]
    found = _persistent(evidence, steps, live)
    some = steps[-2 * limit.WINDOW :] if live else steps
    found += pauses.find(evidence, some)
    found += _only_new(often_late.find(evidence, some), found)
    found += stops.find(evidence, last if live else steps)
    # A rank without a CPU pauses, too, and the thread that reads its connections with it.
    starved = {each.ranks for each in found if each.kind is Kind.STARVED}
    pausing = (Kind.PAUSES, Kind.PAUSED, Kind.FROZEN)
    found = [each for each in found if not (each.kind in pausing and each.ranks in starved)]
    found.sort(key=lambda each: (not each.accuses, -each.weight))
    return found


def _only_new(often: list[Finding], found: list[Finding]) -> list[Finding]:
    """Without ranks of which something is found already, unless that was only some of the time."""
    costs = {each.ranks: each.weight for each in found}
    new = [each for each in often if each.weight > _CLEARLY * costs.get(each.ranks, 0.0)]
    found[:] = [
        each for each in found if each.kind is not Kind.SLOW_RANK or each.ranks not in {one.ranks for one in new}
    ]
    return new


def _persistent(evidence: Evidence, steps: list[int], live: bool) -> list[Finding]:
    """What stands in more than one window, over all of those."""
    width = limit.WINDOW
    windows = [steps[at : at + width] for at in range(0, max(1, len(steps) - width + 1), limit.STRIDE)]
    if windows[-1][-1] != steps[-1]:
        windows.append(steps[-width:])
    if live:
        windows = windows[-1:]
    stands: dict[tuple[Kind, tuple[int, ...], tuple[str, ...]], list[Finding]] = {}
    for some in windows:
        window = Window(evidence, some)
        for each in _in_window(window, steps):
            key = each.kind, each.ranks, each.hosts
            first = window.slower_from if each.first_step is None else each.first_step
            stands.setdefault(key, []).append(replace(each, first_step=first, last_step=some[-1]))
    found = []
    for every in stands.values():
        same = _lasting(every, len(windows))
        if same:
            typical = _typical(same)
            weight = limit.STRIDE * sum(each.weight for each in same)
            found.append(
                replace(typical, first_step=same[0].first_step, last_step=same[-1].last_step, weight=weight)
            )
    return found


def _lasting(same: list[Finding], windows: int) -> list[Finding]:
    """Of one finding in several of the windows, those that count: all, if a link that is only a little slow is so
    for long."""
    if len(same) >= limit.LASTING:
        return [replace(each, confidence=Confidence.MEDIUM) if _is_weak(each) else each for each in same]
    clear = [each for each in same if not _is_weak(each)]
    return clear if len(clear) >= min(limit.MIN_WINDOWS, windows) else []


def _is_weak(finding: Finding) -> bool:
    is_slow = finding.kind in (Kind.SLOW_LINK, Kind.CROSS_TRAFFIC)
    return is_slow and finding.confidence is Confidence.LOW


def _typical(same: list[Finding]) -> Finding:
    """Of one finding in several windows: what most of those say that tell cause and direction at all."""
    told = [each for each in same if each.direction is not None] or same
    said = Counter((each.cause, each.direction) for each in told).most_common(1)[0][0]
    alike = sorted((each for each in told if (each.cause, each.direction) == said), key=lambda each: each.weight)
    return alike[len(alike) // 2]


def _in_window(window: Window, steps: list[int]) -> list[Finding]:
    if len(window.ranks) < 2:
        return []
    ranks = slow_ranks.find(window)
    # A rank without a CPU is slow at its sockets, too.
    starved = {host for each in ranks if each.kind is Kind.STARVED for host in each.hosts}
    links = []
    for each in network.find(window, steps):
        hosts = {host for pair in each.pairs for host in pair}
        # With a late rank connections are idle in each step, and slow to start again.
        is_explained = starved & hosts or slow_ranks.are_throttled(window, hosts) or (ranks and _is_weak(each))
        if each.kind is Kind.LOSSY or not is_explained:
            links.append(each)
    return ranks + links


def _none(evidence: Evidence, steps: list[int]) -> Finding:
    mute = evidence.mute
    if len(evidence.hosts) < 2 and (evidence.world_size or 0) < 2:
        said = "There is one rank, and nothing to compare it with"
        return Finding(Kind.INSUFFICIENT, f"{said}.", confidence=Confidence.LOW)
    if len(steps) < limit.MIN_STEPS:
        seen = f"{len(steps)} steps were seen on all of {len(evidence.hosts)} ranks, {limit.MIN_STEPS} are needed"
        silent = f", and nothing is known of {names(mute)}" if mute else ""
        return Finding(Kind.INSUFFICIENT, f"Too little to tell: {seen}{silent}.", confidence=Confidence.LOW)
    if mute:
        return Finding(
            Kind.INSUFFICIENT,
            f"Nothing stands out among {len(evidence.hosts)} ranks in {len(steps)} steps, but nothing is known of "
            f"{names(mute)}.",
            first_step=steps[0],
            last_step=steps[-1],
            confidence=Confidence.LOW,
        )
    return Finding(
        Kind.NOTHING,
        f"Nothing stands out: in {len(steps)} steps no rank and no link cost more than the others.",
        first_step=steps[0],
        last_step=steps[-1],
    )
