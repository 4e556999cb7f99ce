"""Does a link lose packets?

A full queue loses as well, but makes the round-trip time long; loss on the way makes it short, since the sender
never fills the queue. One direction that loses could lose at either end: the small flows of the two hosts, which
hardly fill anything, tell which, where there are enough of their segments.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from otel_netmon.diagnosis import thresholds as limit
from otel_netmon.diagnosis.finding import Confidence, Direction, Fact, Finding, Kind
from otel_netmon.diagnosis.links import Link, Pair, apart_from, bulk
from otel_netmon.diagnosis.medians import median

_LEAST = 3e-4
"""Share of retransmissions that is taken for usual, where the others have none."""


def find(found: dict[Pair, Link], spent: float) -> list[Finding]:
    """``spent``: seconds of a step in collectives, which is what there is to lose."""
    big = bulk(found)
    if len(big) < 3:
        return []
    losing = [pair for pair in big if _is_lossy(big, pair)]
    usual = max((each.loss for pair, each in big.items() if pair not in losing), default=0.0)
    lossy = [
        pair
        for pair in losing
        if big[pair].loss > limit.LOSS_RATIO * max(usual, 2e-5)
        and big[pair].lossy >= limit.LOSS_READINGS * big[pair].readings
        and _is_on_the_way(big, pair)
        and (big[pair].loss > limit.LOSS_SURE or _slowed(big, pair) < limit.RATE_MEAN)
    ]
    rest = [each.loss for pair, each in big.items() if pair not in lossy] or [0.0]
    if any(big[pair].loss < limit.LOSS_APART * max(rest) for pair in lossy):
        return []  # queues are full here and there
    findings = []
    for some in _together(lossy):
        common = set.intersection(*map(set, some))
        if len(some) == 1:
            findings.append(_one_way(found, big, some[0], rest, spent))
        elif len(common) == 1:
            findings.append(_of_host(big, common.pop(), some, rest, spent))
    return findings


def _together(pairs: list[Pair]) -> list[list[Pair]]:
    """Pairs that have a host in common, directly or by way of others."""
    groups: list[list[Pair]] = []
    for pair in pairs:
        near = [group for group in groups if any({*pair} & {*other} for other in group)]
        groups = [group for group in groups if group not in near]
        groups.append([each for group in near for each in group] + [pair])
    return groups


def _is_lossy(big: dict[Pair, Link], pair: Pair) -> bool:
    one = big[pair]
    return one.loss > limit.LOSS or (one.loss > limit.LOSS_WEAK and one.lossy >= 0.6 * one.readings)


def _is_on_the_way(big: dict[Pair, Link], pair: Pair) -> bool:
    usual = median(each.rtt for each in apart_from(big, pair))
    one = big[pair]
    return one.rtt < limit.LOSS_RTT * usual or (one.loss > limit.LOSS_SURE and one.rtt < limit.RATE_RTT * usual)


def _slowed(big: dict[Pair, Link], pair: Pair) -> float:
    return big[pair].rate / median(each.rate for each in apart_from(big, pair))


def _lost(big: dict[Pair, Link], pairs: list[Pair], spent: float) -> float:
    """Seconds of a step, if those connections are what the collectives wait for."""
    return max(0.0, *(1 - _slowed(big, pair) for pair in pairs)) * spent


def _of_host(big: dict[Pair, Link], host: str, lossy: list[Pair], rest: list[float], spent: float) -> Finding:
    loss = median(big[pair].loss for pair in lossy)
    return Finding(
        Kind.LOSSY,
        f"The link of host {host} loses packets both ways: {100 * loss:.2f} % of the segments on {_arrows(lossy)} "
        f"were sent again, on other pairs at most {100 * max(rest):.2f} %.",
        hosts=(host,),
        pairs=tuple(sorted(lossy)),
        direction=Direction.BOTH,
        lost=_lost(big, lossy, spent),
        confidence=Confidence.HIGH if loss > limit.LOSS_SURE else Confidence.MEDIUM,
        facts=(Fact("segments sent again", loss, max(rest), "1"),),
        weight=max(10 * loss * spent, _lost(big, lossy, spent)),
    )


def _one_way(
    found: dict[Pair, Link], big: dict[Pair, Link], pair: Pair, rest: list[float], spent: float
) -> Finding:
    source, target = pair
    one = big[pair]
    leaving = [each for other, each in found.items() if other[0] == source and other != pair]
    coming = [each for other, each in found.items() if other[1] == target and other != pair]
    usual = max(_LEAST, median(rest))
    out = _likelihood(leaving, one.loss) + _likelihood(coming, usual)
    into = _likelihood(leaving, usual) + _likelihood(coming, one.loss)
    if abs(out - into) > limit.LOSS_LIKELIHOOD:
        is_out = out > into
        hosts: tuple[str, ...] = (source if is_out else target,)
        direction = Direction.TRANSMIT if is_out else Direction.RECEIVE
        who = f"Host {hosts[0]} loses packets {'on its way out' if is_out else 'on its way in'}"
        doubt: tuple[str, ...] = ()
    else:
        hosts, direction = (source, target), None
        who = f"Packets from host {source} to host {target} are lost"
        doubt = (f"which end it is: the way out of {source}, the way into {target}, or what is between them",)
    seen = ", ".join(
        f"{sum(each.retransmits for each in some)} of {sum(each.segments for each in some)} {where}"
        for some, where in ((leaving, f"from {source} to others"), (coming, f"from others to {target}"))
    )
    return Finding(
        Kind.LOSSY,
        f"{who}: {100 * one.loss:.2f} % of the segments from {source} to {target} were sent again, on other pairs "
        f"at most {100 * max(rest):.2f} %; {seen}.",
        hosts=hosts,
        pairs=(pair,),
        direction=direction,
        lost=_lost(big, [pair], spent),
        confidence=(Confidence.HIGH if one.loss > limit.LOSS_SURE else Confidence.MEDIUM)
        if len(hosts) == 1
        else Confidence.LOW,
        facts=(
            Fact("segments sent again", one.loss, max(rest), "1"),
            Fact("round-trip time", one.rtt, median(each.rtt for each in apart_from(big, pair)), "s"),
        ),
        not_excluded=doubt,
        weight=max(10 * one.loss * spent, _lost(big, [pair], spent)),
    )


def _likelihood(some: Iterable[Link], loss: float) -> float:
    """Poisson's logarithm of the probability of what was sent again, if that share is lost."""
    return sum(_poisson(each.retransmits, max(each.segments * loss, 1e-6)) for each in some)


def _poisson(count: int, expected: float) -> float:
    return count * math.log(max(expected, 1e-9)) - expected


def _arrows(pairs: Iterable[Pair]) -> str:
    return ", ".join(f"{source} to {target}" for source, target in sorted(pairs))
