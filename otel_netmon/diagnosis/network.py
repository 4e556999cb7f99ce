"""The network of one window: which readings count, and what they say."""

from __future__ import annotations

from dataclasses import replace

from otel_netmon import semconv
from otel_netmon.diagnosis import lossy_links, slow_links
from otel_netmon.diagnosis import thresholds as limit
from otel_netmon.diagnosis.finding import Direction, Finding
from otel_netmon.diagnosis.links import Spans, host_of, links
from otel_netmon.diagnosis.statistics import Window, known, median
from otel_netmon.diagnosis.stops import stood_still

_SLACK = 6_000_000_000
_OVERHEAD = 1.06
"""Bytes of a NIC per byte that TCP moves, at most, at an MTU of 1500."""


def find(window: Window, steps: list[int]) -> list[Finding]:
    """Over ``window``; ``steps`` are all common ones, of which those that stood still are left out."""
    evidence = window.evidence
    within = {rank: _within(window, rank) for rank in window.ranks}
    still = stood_still(evidence, steps, window.duration)
    first = evidence.steps[steps[0]]
    without: Spans = {
        rank: [
            (0, first.start[rank] if rank in first else 0),
            *((of.start[rank], of.end[rank]) for of in map(evidence.steps.__getitem__, still) if rank in of),
        ]
        for rank in window.ranks
    }
    found = links(evidence, within, without)
    alone = [value for table in window.tables for value in known(table.own)]
    spent = max(0.0, window.duration - median(alone)) if alone else window.duration
    lossy = lossy_links.find(found, spent)
    # Loss lowers the goodput, too.
    findings = lossy or slow_links.find(found, spent, lambda host: _foreign(window, host))
    return [
        replace(each, lost_rank_seconds=None if each.lost is None else each.lost * len(window.ranks))
        for each in findings
    ]


def _within(window: Window, rank: int) -> tuple[int, int]:
    """The window on a rank's clock, made longer where readings are rare, without the reading at its start: that
    one is of before."""
    first, last = window.span(rank)
    readings = window.evidence.traffic.get(rank, ())[-20:]
    interval = median(each.interval for each in readings) if readings else 0.0
    needed = int(max(limit.TRAFFIC_SECONDS, 2.5 * interval) * 1e9)
    if last - first < needed:
        return min(first + int(interval * 5e8), last - needed), last
    return first + int(interval * 1e9), last


def _foreign(window: Window, host: str) -> tuple[float, Direction] | None:
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
        if nic and job is not None and nic > 1e5:
            share = 1 - job * _OVERHEAD / nic
            if worst is None or share > worst[0]:
                worst = share, way
    return worst
