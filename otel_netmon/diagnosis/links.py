"""Readings of connections, summed up by pair of hosts: how fast, how far, how lossy each direction is.

Goodput is what the peer acknowledged per time in which there was something to send: it does not fall when the
training sends less. Between processes of one host nothing is said of a link.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from otel_netmon.diagnosis.evidence import Evidence
from otel_netmon.diagnosis.medians import median
from otel_netmon.records import PeerTraffic

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

    @classmethod
    def of(cls, readings: list[PeerTraffic]) -> Link:
        """Readings, summed up."""
        sent = [each.bytes_sent or 0 for each in readings]
        busy = [each.busy_time or 0.0 for each in readings]
        again = [each.retransmits for each in readings]
        much = [each for each in readings if each.busy_time and (each.bytes_sent or 0) > _MANY]
        return cls(
            len(readings),
            sum(sent),
            sum(busy),
            sum(each.segments_sent or 0 for each in readings),
            sum(again),
            sum(count > 0 for count in again),
            [each.rtt for each in readings if each.rtt is not None],
            [each.shortest_rtt for each in readings if each.shortest_rtt is not None],
            [math.log((each.bytes_sent or 0) / (each.busy_time or 1.0)) for each in much],
        )

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
    found: dict[Pair, list[PeerTraffic]] = defaultdict(list)
    for rank, (first, last) in within.items():
        evidence.pause()
        here, earliest, skip = host_of(evidence, rank), since.get(rank, 0), without.get(rank, ())
        there: dict[int, list[PeerTraffic]] = {}
        for each in evidence.traffic.get(rank, ()):
            if not first <= each.at <= last or each.at - each.interval * 1e9 < earliest:
                continue
            if skip and any(start < each.at and each.at - each.interval * 1e9 < end for start, end in skip):
                continue
            of_peer = there.get(each.peer)
            if of_peer is None:
                of_peer = there[each.peer] = found[here, host_of(evidence, each.peer, each.host)]
            of_peer.append(each)
    return {pair: Link.of(readings) for pair, readings in found.items() if readings and pair[0] != pair[1]}


def bulk(found: Mapping[Pair, Link]) -> dict[Pair, Link]:
    """Those that carry the collectives: a fifth of the busiest one's bytes or more, in more than one reading."""
    most = max((each.sent for each in found.values()), default=0)
    return {pair: each for pair, each in found.items() if each.sent > most / 5 and each.readings > 1}


def apart_from(found: Mapping[Pair, Link], pair: Pair) -> list[Link]:
    """Those that touch neither end of ``pair``, or, where there are none, all others."""
    free = [each for other, each in found.items() if not {*other} & {*pair}]
    return free or [each for other, each in found.items() if other != pair]
