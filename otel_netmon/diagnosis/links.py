"""Readings of connections, summed up by pair of hosts: how fast, how far, how lossy each direction is.

Goodput is what the peer acknowledged per time in which there was something to send: it does not fall when the
training sends less. Between processes of one host nothing is said of a link.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from otel_netmon.diagnosis.evidence import Evidence
from otel_netmon.diagnosis.medians import known, median
from otel_netmon.diagnosis.traffic import PeerReadings, Span

Pair = tuple[str, str]
"""The host that sends, and the one that receives."""
Spans = Mapping[int, list[tuple[int, int]]]
"""By rank, times in nanoseconds of its clock."""

_MANY = 1_000_000
"""Bytes from which on one reading's goodput means something."""


@dataclass
class Link:
    """One direction between two hosts."""

    readings: int = 0
    sent: int = 0
    busy: float = 0.0
    segments: int = 0
    retransmits: int = 0
    lossy: int = 0
    """Readings with retransmissions."""
    rtts: list[float] = field(default_factory=list)
    shortest_rtts: list[float] = field(default_factory=list)
    """Of the connection with the shortest, in each reading: one that is hardly used, if there is any."""
    logs: list[float] = field(default_factory=list)
    """Natural logarithm of the goodput of each reading that moved much, B/s."""

    def add(self, readings: PeerReadings, span: Span) -> None:
        """Add some readings."""
        part = span.slice
        sent, busy, again = readings.sent[part], readings.busy[part], readings.retransmits[part]
        self.readings += len(sent)
        self.sent += sum(sent)
        self.busy += sum(busy)
        self.segments += sum(readings.segments[part])
        self.retransmits += sum(again)
        self.lossy += len(again) - again.count(0)
        self.rtts += known(readings.rtt[part])
        self.shortest_rtts += known(readings.shortest[part])
        self.logs += [
            math.log(one / time) for one, time in zip(sent, busy, strict=True) if time > 0 and one > _MANY
        ]

    @property
    def rate(self) -> float:
        """B/s; NaN where it was never busy."""
        return self.sent / self.busy if self.busy else math.nan

    @property
    def rtt(self) -> float:
        """Seconds; NaN where nothing moved."""
        return median(self.rtts)

    @property
    def loss(self) -> float:
        """Share of segments that were sent again."""
        return self.retransmits / max(1, self.segments)


def host_of(evidence: Evidence, rank: int, said: str | None = None) -> str:
    """Its host; where that is not known, the rank is taken for a host of its own."""
    return evidence.hosts.get(rank) or said or f"rank {rank}"


def links(
    evidence: Evidence, within: Mapping[int, tuple[int, int]], since: Mapping[int, int], without: Spans
) -> dict[Pair, Link]:
    """All readings between the times ``within``, by rank, whose interval begins after ``since`` and does not touch
    those in ``without``."""
    found: dict[Pair, Link] = defaultdict(Link)
    for rank, (first, last) in within.items():
        evidence.pause()
        traffic = evidence.traffic.get(rank)
        if traffic is None:
            continue
        here, earliest, skip = host_of(evidence, rank), since.get(rank, 0), without.get(rank, ())
        for peer, readings in traffic.peers.items():
            there = host_of(evidence, peer, readings.host)
            if here != there:
                for span in _apart(readings, readings.between(first, last), earliest, skip):
                    found[here, there].add(readings, span)
    return {pair: link for pair, link in found.items() if link.readings}


def _apart(readings: PeerReadings, span: Span, earliest: int, skip: Sequence[tuple[int, int]]) -> list[Span]:
    """Those of ``span`` whose interval begins after ``earliest`` and touches nothing of ``skip``."""
    at, interval = readings.at, readings.interval
    begin, behind = span
    while begin < behind and at[begin] - interval[begin] * 1e9 < earliest:
        begin += 1
    if not skip:
        return [Span(begin, behind)]
    return [
        Span(place, place + 1)
        for place in range(begin, behind)
        if not any(start < at[place] and at[place] - interval[place] * 1e9 < end for start, end in skip)
    ]


def bulk(found: Mapping[Pair, Link]) -> dict[Pair, Link]:
    """Those that carry the collectives: a fifth of the busiest one's bytes or more, in more than one reading."""
    most = max((each.sent for each in found.values()), default=0)
    return {pair: each for pair, each in found.items() if each.sent > most / 5 and each.readings > 1}


def apart_from(found: Mapping[Pair, Link], pair: Pair) -> list[Link]:
    """Those that touch neither end of ``pair``, or, where there are none, all others."""
    free = [each for other, each in found.items() if not {*other} & {*pair}]
    return free or [each for other, each in found.items() if other != pair]
