"""Is a link slow, and whose is it?

In a ring a slow host pulls down both of its pairs: data go one way, acknowledgements the other. So of the two ends
of the slowest pair it is the one whose *other* pairs are slow, too. What its NIC carries beyond the job's bytes
tells a link that others fill from one that is slow. A narrow link from a long way is told by round-trip times that
no queue adds to: those of probes, where the user wants them, or of connections that are hardly used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final, NamedTuple

from otel_netmon.diagnosis import thresholds as limit
from otel_netmon.diagnosis.finding import Cause, Confidence, Direction, Fact, Finding, Kind
from otel_netmon.diagnosis.links import Link, Pair, bulk
from otel_netmon.diagnosis.medians import median

_WORDS: Final = {Cause.DELAY: "; the way is long", Cause.RATE: "; the way is narrow, and not long", None: ""}
_WITHOUT_LOAD: Final = "round-trip time without load"

Foreign = Callable[[str], tuple[float, Direction] | None]
"""The share of a host's NIC that is not the job's, and in which direction it is larger; ``None``: not known."""


@dataclass(frozen=True)
class _Suspect:
    """A host, against the pairs that do not touch it."""

    host: str
    rate: float
    """Goodput of its pairs, as a share: the geometric mean."""
    rtt: float
    """Round-trip time of its pairs, as a multiple."""
    worst: float
    score: float
    """How far the logarithms of its readings lie below the others', in standard errors."""
    usual_rate: float
    usual_rtt: float
    touching: tuple[Pair, ...]


def find(
    found: dict[Pair, Link], spent: float, foreign: Foreign, floors: Mapping[Pair, float] = MappingProxyType({})
) -> list[Finding]:
    """Slow hosts, the slowest first; ``spent``: seconds of a step in collectives; ``floors``: the shortest
    round-trip time of probes between two hosts (s), where it is known. One of low confidence means something if it
    lasts."""
    findings: list[Finding] = []
    left = bulk(found)
    while len(left) >= 3:
        suspect = _slowest(left)
        sure = None if suspect is None else _how_sure(suspect)
        if suspect is None or sure is None or (sure is Confidence.LOW and findings):
            break
        why = _why(found, suspect, floors)
        findings.append(replace(_finding(left, suspect, spent, foreign, why), confidence=sure))
        left = {pair: each for pair, each in left.items() if pair not in suspect.touching}
    return findings


def _slowest(big: dict[Pair, Link]) -> _Suspect | None:
    known = {pair: each for pair, each in big.items() if each.rate > 0 and each.rtt > 0}
    if not known:
        return None
    suspects = [_suspect(known, host) for host in min(known, key=lambda pair: known[pair].rate)]
    return min(
        (each for each in suspects if each is not None),
        key=lambda each: math.log(each.rate) - math.log(each.rtt),
        default=None,
    )


def _suspect(known: dict[Pair, Link], host: str) -> _Suspect | None:
    touching = {pair: each for pair, each in known.items() if host in pair}
    free = [each for pair, each in known.items() if host not in pair]
    if not touching or not free:
        return None
    usual_rate, usual_rtt = median(each.rate for each in free), median(each.rtt for each in free)
    own = [value for each in touching.values() for value in each.logs]
    others = [value for each in free for value in each.logs]
    noise = [value - median(each.logs) for each in (*touching.values(), *free) for value in each.logs]
    score = 0.0
    if own and others:
        error = 1.2533 * (1.4826 * median(map(abs, noise)) + 0.01) * math.sqrt(1 / len(own) + 1 / len(others))
        score = (median(others) - median(own)) / error
    rates = [each.rate / usual_rate for each in touching.values()]
    return _Suspect(
        host,
        math.exp(sum(map(math.log, rates)) / len(rates)),
        math.exp(sum(math.log(each.rtt / usual_rtt) for each in touching.values()) / len(touching)),
        min(rates),
        score,
        usual_rate,
        usual_rtt,
        tuple(sorted(touching)),
    )


def _how_sure(one: _Suspect) -> Confidence | None:
    """That it is slow; ``None``: it is not."""
    if one.worst < limit.RATE_SURE and one.score > limit.RATE_Z_SURE and one.rate < limit.RATE_MEAN:
        return Confidence.HIGH
    is_slow = one.worst < limit.RATE and one.rate < limit.RATE_MEAN
    if is_slow and one.rtt > limit.RATE_RTT and one.score > limit.RATE_Z:
        return Confidence.MEDIUM if one.worst >= limit.RATE_SURE else Confidence.HIGH
    is_weak = one.worst < limit.RATE_WEAK and one.rate < limit.RATE_MEAN_WEAK and one.score > limit.RATE_Z_WEAK
    return Confidence.LOW if is_weak else None


class _Why(NamedTuple):
    """A delay or a rate limit, where that is known, and the fact that says so."""

    cause: Cause | None
    facts: tuple[Fact, ...] = ()


def _why(found: dict[Pair, Link], one: _Suspect, floors: Mapping[Pair, float]) -> _Why:
    own = [value for pair, value in floors.items() if one.host in pair]
    others = [value for pair, value in floors.items() if one.host not in pair]
    if own and others:
        here, usual = median(own), median(others)
        is_longer = here > limit.DELAY_RTT * usual and here > usual + limit.DELAY_SECONDS
        return _Why(Cause.DELAY if is_longer else Cause.RATE, (Fact(_WITHOUT_LOAD, here, usual, "s"),))
    busy = max(found[pair].rtt for pair in one.touching)
    # Medians, since some readings of a window may be of before the fault.
    touching = [each.shortest_rtts for pair, each in found.items() if one.host in pair]
    idle = [median(each) for each in touching if len(each) > 2]
    if idle and min(idle) < limit.NO_DELAY * (busy - one.usual_rtt):
        return _Why(Cause.RATE, (Fact("round-trip time of connections hardly used", min(idle), busy, "s"),))
    return _Why(None)


def _finding(big: dict[Pair, Link], one: _Suspect, spent: float, foreign: Foreign, why: _Why) -> Finding:
    out = [big[pair].rate for pair in one.touching if pair[0] == one.host]
    into = [big[pair].rate for pair in one.touching if pair[1] == one.host]
    direction = _direction(out, into, one.worst)
    strange = foreign(one.host)
    is_foreign = strange is not None and strange[0] > limit.FOREIGN
    if strange is not None and is_foreign:
        direction = strange[1]
    lost = (1 - one.worst) * spent
    way = {Direction.TRANSMIT: " on its way out", Direction.RECEIVE: " on its way in", Direction.BOTH: ""}
    slow = min(one.touching, key=lambda pair: big[pair].rate)
    rtt = max(big[pair].rtt for pair in one.touching)
    sentence = (
        f"The link of host {one.host} is slow{way[direction] if direction else ''}: {slow[0]} to {slow[1]} moves "
        f"{_megabits(big[slow].rate)} Mbit/s while busy, pairs that do not touch it "
        f"{_megabits(one.usual_rate)}; its round-trip time is {1e3 * rtt:.1f} ms against {1e3 * one.usual_rtt:.1f}"
    )
    if is_foreign and strange is not None:
        sentence += f"; {100 * strange[0]:.0f} % of what its NIC carries is not this job's"
    doubts = [] if strange is not None else ["traffic of others: what the NIC carries was not recorded"]
    if direction is None:
        doubts.append("the direction: both are slow alike")
    if not is_foreign:
        sentence += _WORDS[why.cause]
        if why.cause is None:
            doubts.append(
                "a long way rather than a narrow one: both lower the goodput, and no round-trip time without load "
                "is known (OTEL_NETMON_LATENCY_PEERS=true measures it)"
            )
    return Finding(
        Kind.CROSS_TRAFFIC if is_foreign else Kind.SLOW_LINK,
        sentence + ".",
        hosts=(one.host,),
        pairs=one.touching,
        direction=direction,
        cause=None if is_foreign else why.cause,
        lost=lost,
        facts=(
            Fact("goodput while busy", big[slow].rate, one.usual_rate, "By/s"),
            Fact("round-trip time", rtt, one.usual_rtt, "s"),
            *((Fact("bytes of others", strange[0], 0.0, "1"),) if strange is not None else ()),
            *(() if is_foreign else why.facts),
        ),
        not_excluded=tuple(doubts),
        weight=lost,
    )


def _direction(out: list[float], into: list[float], worst: float) -> Direction | None:
    if not out or not into:
        return None
    ratio = min(out) / min(into)
    if ratio < limit.ONE_WAY:
        return Direction.TRANSMIT
    if ratio > 1 / limit.ONE_WAY:
        return Direction.RECEIVE
    return Direction.BOTH if worst < limit.RATE_SURE else None


def _megabits(rate: float) -> str:
    return f"{8e-6 * rate:.0f}"
