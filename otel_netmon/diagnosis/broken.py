"""Is something stuck or broken, and who is it?

Comes before everything else: a rank that others wait for for ever has no steps to compare. Ranks agree on what a
sequence number of a group means, so the first number that did not end everywhere tells who is missing in it:

- A rank that never issued it: it hangs before it, or it is dead. (One that waits in a collective of another group
  is not the origin.) Which of the two its own clock tells: one that hangs was alive for as long as the others
  waited; one that is dead was last heard of right after its last collective.
- Another operation or size under one number: desynchronised. The minority at the *first* such number is it; errors
  that come later hit innocent ranks.
- All issued the same, and it does not end: the network, if retransmission timeouts back off, or a process that is
  stopped, if one of them is silent.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from otel_netmon.diagnosis import all_in
from otel_netmon.diagnosis import thresholds as limit
from otel_netmon.diagnosis.evidence import DEFAULT_GROUP, CallSeen, Evidence
from otel_netmon.diagnosis.exits import described, is_killed, own_end, was_still
from otel_netmon.diagnosis.finding import Cause, Confidence, Fact, Finding, Kind, hosts_of, names
from otel_netmon.diagnosis.stuck import Stuck, stuck_in, waits_for

_ORDER: Final = (
    *(Kind.DESYNCHRONISED, Kind.DEAD, Kind.HUNG, Kind.CUT, Kind.FROZEN, Kind.STARVED, Kind.STUCK),
    Kind.INSUFFICIENT,
)
"""What explains the others comes first."""
_SAME_SIZE: Final = frozenset({"all_reduce", "broadcast", "reduce"})
"""Operations whose size has to be the same on all ranks; others may differ by design."""


def find(evidence: Evidence) -> list[Finding]:
    """What is stuck or broken, if it is for long enough; the origins, and not who waits for them."""
    stuck = [each for group in evidence.calls if (each := stuck_in(evidence, group)) is not None]
    apart = [finding for one in stuck if (finding := _desynchronised(evidence, one)) is not None]
    if apart:
        return sorted(apart, key=lambda each: not each.ranks)[:1]
    waits = waits_for(stuck)
    # A rank that waits for another is not the origin, unless it is itself behind what it waits in.
    origins = {rank for one in stuck for rank in one.missing if not waits.get(rank)}
    found = _missing(evidence, stuck, origins) if origins else []
    found = found or _killed(evidence)
    if not found and not any(one.missing for one in stuck):
        found = [finding for one in stuck if (finding := _without_missing(evidence, one)) is not None]
        found = sorted(found, key=lambda each: (not each.accuses, _ORDER.index(each.kind)))[:1]
    return found


def _without_missing(evidence: Evidence, stuck: Stuck) -> Finding | None:
    if stuck.unknown:
        return _unknown(stuck)
    if stuck.waited is not None and stuck.waited < limit.WAIT_SECONDS:
        return None
    return all_in.find(evidence, stuck)


def _killed(evidence: Evidence) -> list[Finding]:
    """A process that a signal ended while nothing says that another waits for it: its launcher saw it."""
    own = {rank: end for rank in evidence.exits if (end := own_end(evidence, rank)) is not None}
    killed = [rank for rank, how in own.items() if is_killed(how)]
    if len(killed) != 1:
        return []
    how = own[killed[0]]
    return [
        Finding(
            Kind.DEAD,
            f"Rank {killed[0]} {described(how)}, as its launcher saw.",
            ranks=tuple(killed),
            hosts=hosts_of(evidence.hosts, killed),
            confidence=Confidence.HIGH,
            facts=(Fact("signal", float(how.signal or 0), None, ""),),
            weight=1e9,
        )
    ]


def _desynchronised(evidence: Evidence, stuck: Stuck) -> Finding | None:
    by_rank = evidence.calls[stuck.group]
    numbers = sorted({number for calls in by_rank.values() for number in calls})
    for number in numbers:
        if number < stuck.sequence - limit.LOOK_BACK:
            continue
        did = {rank: calls[number] for rank, calls in by_rank.items() if number in calls}
        signs = {rank: _sign(call) for rank, call in did.items()}
        counted = Counter(signs.values()).most_common()
        if len(counted) < 2:
            continue
        has_majority = counted[0][1] > sum(count for _, count in counted[1:])
        odd = tuple(sorted(rank for rank, sign in signs.items() if sign != counted[0][0])) if has_majority else ()
        said = "; ".join(
            f"{names(sorted(rank for rank in signs if signs[rank] == sign))} {_said(sign)}"
            for sign, _ in counted[:4]
        )
        group = "" if stuck.group == DEFAULT_GROUP else f" of group {stuck.group}"
        who = (
            f"{names(odd).capitalize()} went another way than the others"
            if odd
            else "The ranks went different ways"
        )
        return Finding(
            Kind.DESYNCHRONISED,
            f"{who}: as collective number {number}{group}, {said}.",
            ranks=odd,
            hosts=hosts_of(evidence.hosts, odd),
            confidence=Confidence.HIGH if odd else Confidence.LOW,
            facts=(Fact("sequence number", float(number), None, ""),),
            not_excluded=() if odd else ("which of them is right: there is no majority",),
            weight=1e9,
        )
    return None


def _sign(call: CallSeen) -> tuple[str, int | None]:
    return call.operation, call.size if call.operation in _SAME_SIZE else None


def _said(sign: tuple[str, int | None]) -> str:
    operation, size = sign
    return f"issued {operation}" + ("" if size is None else f" of {size} bytes")


def _missing(evidence: Evidence, stuck: list[Stuck], origins: set[int]) -> list[Finding]:
    """Of ranks that others wait for: those that are dead, and those that hang."""
    still = {rank: seconds for rank in sorted(origins) if (seconds := was_still(evidence, rank)) is not None}
    dead: list[int] = []
    hung: list[int] = []
    for rank in sorted(origins - still.keys()):
        (dead if _is_dead(evidence, stuck, rank) else hung).append(rank)
    found = [_frozen(evidence, _widest(stuck, list(still)), still)] if still else []
    unheard = [
        rank
        for rank in (*dead, *hung)
        if rank not in evidence.exits and evidence.silent.get(rank, 0.0) > limit.UNHEARD_SECONDS
    ]
    if 2 * len(unheard) >= len(evidence.hosts):
        # Who hears of nobody any more is as likely to be the one that is cut off.
        found.append(_unheard(evidence, _widest(stuck, unheard), unheard))
        dead = [rank for rank in dead if rank not in unheard]
        hung = [rank for rank in hung if rank not in unheard]
    if dead:
        found.append(_dead(evidence, _widest(stuck, dead), dead))
    if hung:
        one = _widest(stuck, hung)
        if one.waited is None or one.waited >= limit.HANG_SECONDS:
            found.append(_hung(evidence, one, hung))
    return found


def _widest(stuck: list[Stuck], ranks: list[int]) -> Stuck:
    """The group in which most of them are missing; of such, that in which most wait."""
    return max(stuck, key=lambda one: (len({*one.missing} & {*ranks}), len(one.waiting)))


def _is_dead(evidence: Evidence, stuck: list[Stuck], rank: int) -> bool:
    if rank in evidence.exits:
        return own_end(evidence, rank) is not None
    if evidence.silent:
        return evidence.silent.get(rank, 0.0) > limit.SILENT_SECONDS
    missed = [one for one in stuck if rank in one.missing]
    waited = max((one.waited or 0.0 for one in missed), default=0.0)
    has_failed = any(one.failed for one in missed)
    # One that hangs was alive for as long as the others waited.
    return not (rank in evidence.said_end or not has_failed or _idle(evidence, rank) > waited / 2 > 0.5)


def _hung(evidence: Evidence, stuck: Stuck, ranks: list[int]) -> Finding:
    there = sorted(stuck.waiting)
    last = max(evidence.head(stuck.group, rank) for rank in ranks)
    behind = [rank for rank in ranks if _is_behind(evidence, stuck, rank)]
    alive = "though its process was alive" if len(ranks) == 1 else "though their processes were alive"
    doubts = ["an exception of its own, where its launcher said nothing of its end"] if stuck.failed else []
    if behind:
        doubts.append(f"a device or link of {names(behind)}: collectives that others ended are open there")
    got_to = f"the last collective there was number {last}" if last >= 0 else "none of theirs there is open"
    return Finding(
        Kind.HUNG,
        f"{names(ranks).capitalize()} never came to {stuck.name}, which {names(there)} waited in{stuck.after}, "
        f"{alive}: {got_to}{stuck.said}.",
        ranks=tuple(ranks),
        hosts=hosts_of(evidence.hosts, ranks),
        cause=Cause.UNKNOWN,
        lost=stuck.waited,
        lost_rank_seconds=None if stuck.waited is None else stuck.waited * len(there),
        confidence=Confidence.HIGH
        if stuck.waited is not None and stuck.waited > 2 * limit.HANG_SECONDS
        else Confidence.MEDIUM,
        facts=(
            *((Fact("last sequence number", float(last), float(stuck.sequence), ""),) if last >= 0 else ()),
            *stuck.facts,
        ),
        not_excluded=tuple(doubts),
        weight=1e9,
    )


def _is_behind(evidence: Evidence, stuck: Stuck, rank: int) -> bool:
    calls = evidence.calls[stuck.group].get(rank, {}).values()
    return any(call.end is None and call.error is None for call in calls)


def _dead(evidence: Evidence, stuck: Stuck, ranks: list[int]) -> Finding:
    last = max(evidence.head(stuck.group, rank) for rank in ranks)
    how = [end for rank in ranks if (end := own_end(evidence, rank)) is not None]
    doubt: tuple[str, ...] = ()
    if how:
        said = described(how[0])
    elif any(rank in evidence.silent for rank in ranks):
        seconds = max(evidence.silent.get(rank, 0.0) for rank in ranks)
        said = f"{'has' if len(ranks) == 1 else 'have'} been silent for {seconds:.0f} s"
        doubt = ("a process that is stopped, or a host that is cut off",)
    else:
        said, doubt = "stopped without a word", ("a process that is stopped for good, or a host that is cut off",)
    return Finding(
        Kind.DEAD,
        f"{names(ranks).capitalize()} {said} after collective number {last}; {names(sorted(stuck.waiting))} went "
        f"on to {stuck.name}, which {'failed' if stuck.failed else 'waits'}{stuck.said}.",
        ranks=tuple(ranks),
        hosts=hosts_of(evidence.hosts, ranks),
        confidence=Confidence.HIGH if how else Confidence.MEDIUM,
        facts=(Fact("last sequence number", float(last), float(stuck.sequence), ""),),
        not_excluded=doubt,
        weight=1e9,
    )


def _frozen(evidence: Evidence, stuck: Stuck, still: dict[int, float]) -> Finding:
    ranks = tuple(still)
    one = len(ranks) == 1
    return Finding(
        Kind.FROZEN,
        f"{names(ranks).capitalize()} stood still: nothing was heard of {'it' if one else 'them'} for "
        f"{max(still.values()):.0f} s until {'its process' if one else 'their processes'} ended, while "
        f"{names(sorted(stuck.waiting))} waited in {stuck.name}{stuck.said}.",
        ranks=ranks,
        hosts=hosts_of(evidence.hosts, ranks),
        lost=stuck.waited,
        confidence=Confidence.MEDIUM,
        facts=(Fact("silent until its end", max(still.values()), None, "s"), *stuck.facts),
        not_excluded=("that its telemetry alone stopped, and it hung",),
        weight=1e9,
    )


def _idle(evidence: Evidence, rank: int) -> float:
    """Seconds from the end of a rank's last collective until it was last heard of, by its own clock."""
    ends = [call.end or call.start for of in evidence.calls.values() for call in of.get(rank, {}).values()]
    return (evidence.last_sign[rank] - max(ends)) / 1e9 if ends and rank in evidence.last_sign else 0.0


def _unheard(evidence: Evidence, stuck: Stuck, ranks: list[int]) -> Finding:
    longest = max(evidence.silent[rank] for rank in ranks)
    return Finding(
        Kind.STUCK,
        f"Nothing has been heard of {names(ranks)} for {longest:.0f} s, and {stuck.name} "
        f"{'failed' if stuck.failed else 'waits'}: they are gone, or the host that listens is cut off, "
        f"that of {names(sorted(stuck.waiting))}.",
        confidence=Confidence.LOW,
        facts=(Fact("ranks that are silent", float(len(ranks)), float(len(evidence.hosts)), ""),),
        weight=1e9,
    )


def _unknown(stuck: Stuck) -> Finding:
    verb = "failed" if stuck.failed else "has not ended"
    return Finding(
        Kind.INSUFFICIENT,
        f"{stuck.name.capitalize()} {verb}, and nothing is known of {names(stuck.unknown)}: nobody can be named"
        f"{stuck.said}.",
        confidence=Confidence.LOW,
        weight=1e9,
    )
