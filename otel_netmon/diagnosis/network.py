"""The network of one window: which readings count, and what they say."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from otel_netmon import semconv
from otel_netmon.diagnosis import lossy_links, slow_links
from otel_netmon.diagnosis import thresholds as limit
from otel_netmon.diagnosis.evidence import Evidence
from otel_netmon.diagnosis.finding import Direction, Finding
from otel_netmon.diagnosis.links import Pair, Spans, host_of, links
from otel_netmon.diagnosis.medians import known, median
from otel_netmon.diagnosis.statistics import Window
from otel_netmon.diagnosis.stops import stood_still
from otel_netmon.records import HostTraffic

_SLACK = 6_000_000_000
_RECENT = 8
"""Readings of a rank that tell how often there is one."""
_LITTLE = 1e5
"""B/s of a NIC, below which shares mean nothing."""
_OVERHEAD = 1.06
"""Bytes of a NIC per byte that TCP moves, at most, at an MTU of 1500."""
_ACKNOWLEDGED = 0.05
"""And per byte that it moves the other way, for acknowledgements."""


def find(window: Window, steps: list[int]) -> list[Finding]:
    """Over ``window``; ``steps`` are all common ones, of which those that stood still are left out."""
    evidence = window.evidence
    within = {rank: _within(window, rank) for rank in window.ranks}
    still = stood_still(evidence, steps, window.duration)
    first = evidence.steps[steps[0]]
    tables = [evidence.steps[number] for number in still]
    without: Spans = {
        rank: [(of.start[rank], of.end[rank]) for of in tables if rank in of]
        for rank in (window.ranks if still else ())
    }
    since = {rank: first.start[rank] for rank in window.ranks if rank in first}
    found = links(evidence, within, since, without)
    alone = [value for table in window.tables for value in known(table.own)]
    spent = max(0.0, window.duration - median(alone)) if alone else window.duration
    lossy = lossy_links.find(found, spent)
    # Loss lowers the goodput, too.
    losing = {host for each in lossy for pair in each.pairs for host in pair}
    findings = lossy + slow_links.find(
        {pair: link for pair, link in found.items() if not losing & {*pair}},
        spent,
        lambda host: _foreign_at_once(window, host, within) or _foreign(window, host),
        _floors(window),
    )
    return [
        replace(each, lost_rank_seconds=None if each.lost is None else each.lost * len(window.ranks))
        for each in findings
    ]


def _within(window: Window, rank: int) -> tuple[int, int]:
    """The window on a rank's clock, made longer where readings are rare, without the reading at its start: that
    one is of before."""
    first, last = window.span(rank)
    traffic = window.evidence.traffic.get(rank)
    intervals = [] if traffic is None else traffic.latest_intervals(_RECENT)
    interval = median(intervals) if intervals else 0.0
    needed = int(max(limit.TRAFFIC_SECONDS, 2.5 * interval) * 1e9)
    if last - first < needed:
        return min(first + int(interval * 5e8), last - needed), last
    return first + int(interval * 1e9), last


def _floors(window: Window) -> dict[Pair, float]:
    """By pair of hosts, in one order or the other, the shortest round-trip time of probes in the later half of the
    window: in the earlier one the fault may not have been there, and one quick probe would deny a delay."""
    found: dict[Pair, float] = {}
    spans = {host_of(window.evidence, rank): window.span(rank) for rank in window.ranks}
    for (here, there), readings in window.evidence.floors.items():
        first, last = spans.get(here, (1, 0))
        known = [value for at, value in readings if (first + last) // 2 <= at <= last + _SLACK]
        if known:
            pair = min((here, there), (there, here))
            found[pair] = min(*known, found.get(pair, math.inf))
    return found


def _foreign_at_once(
    window: Window, host: str, within: Mapping[int, tuple[int, int]]
) -> tuple[float, Direction] | None:
    """The share of others on the NIC that carries most of the training's bytes, where both were read together."""
    nics: dict[str, list[_Moved]] = defaultdict(list)
    silent = 0
    for rank, (first, last) in within.items():
        if host_of(window.evidence, rank) == host:
            by_nic: dict[str, _Moved] = defaultdict(_Moved)
            for each in window.evidence.nics.get(rank, ()):
                if first <= each.at <= last:
                    by_nic[each.interface].add(each)
            for name, moved in by_nic.items():
                nics[name].append(moved)
            silent += not by_nic and _leaves_host(window.evidence, rank, host)
    if not nics or silent:
        return None
    ranks = max(nics.values(), key=lambda all_of: sum(each.job_sent + each.job_received for each in all_of))
    longest = max(ranks, key=lambda each: each.seconds)
    # Of some ranks of the host a reading more may be known than of others.
    sent = sum(each.job_sent * longest.seconds / each.seconds for each in ranks if each.seconds)
    received = sum(each.job_received * longest.seconds / each.seconds for each in ranks if each.seconds)
    shares = [
        (max(0.0, 1 - (_OVERHEAD * job + _ACKNOWLEDGED * back) / nic), way)  # large packets have less around them
        for way, nic, job, back in (
            (Direction.RECEIVE, longest.received, received, sent),
            (Direction.TRANSMIT, longest.sent, sent, received),
        )
        if nic > _LITTLE * longest.seconds
    ]
    return max(shares, default=None)


def _leaves_host(evidence: Evidence, rank: int, host: str) -> bool:
    """Whether that rank of ``host`` has connections to other hosts."""
    traffic = evidence.traffic.get(rank)
    return traffic is not None and any(
        host_of(evidence, peer, of.host) != host for peer, of in traffic.peers.items()
    )


@dataclass
class _Moved:
    """What one rank read of one NIC."""

    seconds: float = 0.0
    sent: int = 0
    received: int = 0
    job_sent: int = 0
    job_received: int = 0

    def add(self, each: HostTraffic) -> None:
        self.seconds += each.interval
        self.sent += each.sent
        self.received += each.received
        self.job_sent += each.job_sent
        self.job_received += each.job_received


def _foreign(window: Window, host: str) -> tuple[float, Direction] | None:
    """The same by counters, which other processes read at other times."""
    evidence = window.evidence
    ranks = [rank for rank in window.ranks if host_of(evidence, rank) == host]
    spans = [window.span(rank) for rank in ranks]
    if not spans:
        return None
    first, last = min(span[0] for span in spans) - _SLACK, max(span[1] for span in spans) + _SLACK
    worst: tuple[float, Direction] | None = None
    for way in (Direction.RECEIVE, Direction.TRANSMIT):
        about = {str(semconv.DIRECTION): way.value}
        nic = evidence.growth(host, semconv.NIC_IO.name, first, last, about)
        job = evidence.growth(host, semconv.TCP_IO.name, first, last, about)
        if nic and job is not None and nic > _LITTLE:
            share = 1 - job * _OVERHEAD / nic
            if worst is None or share > worst[0]:
                worst = share, way
    return worst
