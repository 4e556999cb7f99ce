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

from otel_netmon.diagnosis import all_in
from otel_netmon.diagnosis import thresholds as limit
from otel_netmon.diagnosis.evidence import DEFAULT_GROUP, CallSeen, Evidence
from otel_netmon.diagnosis.exits import described, is_killed, own_end
from otel_netmon.diagnosis.finding import Cause, Confidence, Fact, Finding, Kind, hosts_of, names
from otel_netmon.diagnosis.stuck import Stuck, stuck_in

_SAME_SIZE = frozenset({"all_reduce", "broadcast", "reduce"})
"""Operations whose size has to be the same on all ranks; others may differ by design."""


def find(evidence: Evidence) -> Finding | None:
    """The first that is stuck or broken, ``None`` if nothing is (or not for long enough)."""
    stuck = [each for group in evidence.calls if (each := stuck_in(evidence, group)) is not None]
    findings = [finding for one in stuck if (finding := _judge(evidence, one, stuck)) is not None]
    order = [Kind.DESYNCHRONISED, Kind.DEAD, Kind.HUNG, Kind.CUT, Kind.FROZEN, Kind.STARVED, Kind.STUCK]
    ended = _ended(evidence)
    if ended is not None and not any(each.kind is Kind.DESYNCHRONISED for each in findings):
        findings.append(ended)
    return min(findings, key=lambda each: (not each.ranks, order.index(each.kind)), default=None)


def _ended(evidence: Evidence) -> Finding | None:
    """A process that ended by a signal, or with an error while the others were at work: the launcher says so."""
    bad = {rank: how for rank, how in evidence.exits.items() if how.signal or how.code}
    killed = sorted(rank for rank, how in bad.items() if how.signal not in (None, 15))
    if len(killed) != 1:
        return None  # SIGTERM is what a launcher ends the others with
    (rank,) = killed
    how = bad[rank]
    return Finding(
        Kind.DEAD,
        f"Rank {rank} was ended by signal {how.signal}, as its launcher saw.",
        ranks=(rank,),
        hosts=hosts_of(evidence.hosts, (rank,)),
        confidence=Confidence.HIGH,
        facts=(Fact("signal", float(how.signal or 0), None, ""),),
        weight=1e9,
    )


def _judge(evidence: Evidence, stuck: Stuck, all_stuck: list[Stuck]) -> Finding | None:
    apart = _desynchronised(evidence, stuck)
    if apart is not None:
        return apart
    head = {rank: evidence.head(stuck.group, rank) for rank in stuck.members}
    known = stuck.members & evidence.hosts.keys()
    missing = sorted(rank for rank in known if head[rank] < stuck.sequence)
    elsewhere = {
        rank
        for other in all_stuck
        if other is not stuck
        for rank, call in other.unended.items()
        if call.error is None
    }
    origin = [rank for rank in missing if rank not in elsewhere]
    if origin:
        return _missing(evidence, stuck, origin, head)
    if missing:
        return None  # they wait in another group: that one is judged by itself
    if known != stuck.members:
        return _unknown(stuck, sorted(stuck.members - known))
    if stuck.waited < limit.WAIT_SECONDS:
        return None
    return all_in.find(evidence, stuck)


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


def _missing(evidence: Evidence, stuck: Stuck, origin: list[int], head: dict[int, int]) -> Finding | None:
    dead, hung = [], []
    for rank in origin:
        how = evidence.exits.get(rank)
        if (how is not None and (how.signal or how.code)) or evidence.silent.get(rank, 0.0) > limit.SILENT_SECONDS:
            dead.append(rank)
        elif rank in evidence.said_end or not stuck.failed or _idle(evidence, rank) > stuck.waited / 2 > 0.5:
            hung.append(rank)
        else:
            dead.append(rank)
    there = [rank for rank in sorted(stuck.members & evidence.hosts.keys()) if rank not in origin]
    if dead:
        return _dead(evidence, stuck, dead, there, head)
    if stuck.waited < limit.HANG_SECONDS:
        return None
    ranks = tuple(hung)
    return Finding(
        Kind.HUNG,
        f"{names(hung).capitalize()} never came to {stuck.name}, which {names(there)} waited in for "
        f"{stuck.waited:.1f} s, though {'its process was' if len(hung) == 1 else 'their processes were'} alive: "
        f"the last collective there was number {max(head[rank] for rank in hung)}.",
        ranks=ranks,
        hosts=hosts_of(evidence.hosts, ranks),
        cause=Cause.UNKNOWN,
        lost=stuck.waited,
        lost_rank_seconds=stuck.waited * len(there),
        confidence=Confidence.HIGH if stuck.waited > 2 * limit.HANG_SECONDS else Confidence.MEDIUM,
        facts=(
            Fact("last sequence number", float(max(head[rank] for rank in hung)), float(stuck.sequence), ""),
            Fact("waited", stuck.waited, None, "s"),
        ),
        not_excluded=("an exception of that rank's own, where its launcher said nothing of its end",)
        if stuck.failed
        else (),
        weight=1e9,
    )


def _dead(evidence: Evidence, stuck: Stuck, dead: list[int], there: list[int], head: dict[int, int]) -> Finding:
    last = max(head[rank] for rank in dead)
    ranks = tuple(dead)
    doubt: tuple[str, ...] = ()
    how = [evidence.exits[rank] for rank in dead if rank in evidence.exits]
    if how:
        end = f"signal {how[0].signal}" if how[0].signal else f"exit code {how[0].code}"
        said = f"ended with {end}"
    elif any(rank in evidence.silent for rank in dead):
        seconds = max(evidence.silent.get(rank, 0.0) for rank in dead)
        said = f"{'has' if len(dead) == 1 else 'have'} been silent for {seconds:.0f} s"
        doubt = ("a process that is stopped, or a host that is cut off",)
    else:
        said, doubt = "stopped without a word", ("a host that is cut off",)
    return Finding(
        Kind.DEAD,
        f"{names(dead).capitalize()} {said} after collective number {last}; {names(there)} went on to "
        f"{stuck.name}, which {'failed' if stuck.failed else 'waits'}.",
        ranks=ranks,
        hosts=hosts_of(evidence.hosts, ranks),
        confidence=Confidence.HIGH if how else Confidence.MEDIUM,
        facts=(Fact("last sequence number", float(last), float(stuck.sequence), ""),),
        not_excluded=doubt,
        weight=1e9,
    )


def _idle(evidence: Evidence, rank: int) -> float:
    """Seconds from the end of a rank's last collective until it was last heard of, by its own clock."""
    ends = [call.end or call.start for of in evidence.calls.values() for call in of.get(rank, {}).values()]
    return (evidence.last_sign[rank] - max(ends)) / 1e9 if ends and rank in evidence.last_sign else 0.0


def _unknown(stuck: Stuck, mute: list[int]) -> Finding:
    verb = "failed" if stuck.failed else f"has not ended for {stuck.waited:.1f} s"
    return Finding(
        Kind.INSUFFICIENT,
        f"{stuck.name.capitalize()} {verb}, and nothing is known of {names(mute)}: nobody can be named.",
        confidence=Confidence.LOW,
        weight=1e9,
    )
