"""Evidence of jobs that never were: four hosts in a ring, a step every 200 ms, and what a test says is wrong."""

from __future__ import annotations

import random
from collections.abc import Callable

from otel_netmon.diagnosis.evidence import CallSeen, Evidence
from otel_netmon.diagnosis.steps import StepSample, StepTable
from otel_netmon.diagnosis.traffic import Traffic
from otel_netmon.records import PeerTraffic

STEP = 0.2
TRANSFER = 0.15
MBIT = 125_000.0
"""Bytes per second."""

Change = Callable[[Evidence, int, list[PeerTraffic]], list[PeerTraffic]]
"""Of a rank's readings."""
Extra = Callable[[int, int], dict[str, float]]
"""Of a step (first) and rank (second): seconds more of a field of ``StepSample``, or of ``own``."""


def job(ranks: int = 4, steps: int = 40, extra: Extra = lambda _step, _rank: {}, *, per_host: int = 1) -> Evidence:
    """A job whose ranks' clocks are hours apart; noise of some ms."""
    noise = random.Random(7)
    evidence = Evidence(ranks)
    for rank in range(ranks):
        evidence.hosts[rank] = f"h{rank // per_host}"
    clocks = [rank * 3_600 * 10**9 for rank in range(ranks)]
    for number in range(steps):
        table = evidence.steps[number] = StepTable()
        more = [extra(number, rank) for rank in range(ranks)]
        longest = max(each.get("own", 0.0) for each in more)
        for rank in range(ranks):
            own = STEP - TRANSFER + noise.gauss(0, 0.001) + more[rank].get("own", 0.0)
            inside = TRANSFER + longest - more[rank].get("own", 0.0) + more[rank].get("in_collectives", 0.0)
            start = clocks[rank]
            clocks[rank] = end = start + int((own + inside) * 1e9)
            fields = {"data": 0.002, "gc": 0.0, "cpu": 0.03, "run_queue": 0.004, "issued": 0.045}
            fields |= {"throttled": 0.0} if "throttled" in more[rank] else {}
            values = {name: value + more[rank].get(name, 0.0) for name, value in fields.items()}
            table.add(rank, StepSample(start, end, inside, **values, calls=3, size=4_000_000))
        for rank in range(ranks):
            evidence.last_sign[rank] = clocks[rank]
    return evidence


def ring(
    evidence: Evidence,
    *,
    rate: Callable[[int, int], float] = lambda _source, _target: 400.0,
    rtt: Callable[[int, int], float] = lambda _source, _target: 0.003,
    loss: Callable[[int, int], float] = lambda _source, _target: 0.0,
    change: Change = lambda _evidence, _rank, readings: readings,
) -> Evidence:
    """Add readings of connections: bulk to the next rank, little to the others. ``rate`` in Mbit/s while busy."""
    noise = random.Random(3)
    ranks = evidence.ranks
    for rank in ranks:
        readings = []
        first = min(table.start[rank] for table in evidence.steps.values())
        last = max(table.end[rank] for table in evidence.steps.values())
        for at in range(first + 10**9, last, 500_000_000):
            for peer in ranks:
                if peer != rank:
                    sent = 2_000_000 if peer == (rank + 1) % len(ranks) else 20_000
                    segments = sent // 1448 + 1
                    again = sum(noise.random() < loss(rank, peer) for _ in range(segments))
                    busy = sent / (rate(rank, peer) * MBIT * noise.uniform(0.95, 1.05))
                    readings.append(
                        reading(peer, at, sent, busy, rtt(rank, peer) * noise.uniform(0.9, 1.1), segments, again)
                    )
        evidence.traffic[rank] = Traffic(change(evidence, rank, readings))
    return evidence


def reading(
    peer: int, at: int, sent: int, busy: float, rtt: float, segments: int, retransmits: int, backoff: int = 0
) -> PeerTraffic:
    """One reading of half a second."""
    return PeerTraffic(
        peer=peer, host=None, interval=0.5, connections=1, bytes_sent=sent, bytes_received=sent,
        segments_sent=segments, retransmits=retransmits, rtt=rtt, rtt_variation=None, min_rtt=1e-4, busy_time=busy,
        rwnd_limited_time=None, sndbuf_limited_time=None, delivery_rate=None, backoff=backoff, unacked=0, unread=0,
        at=at,
    )  # fmt: skip


def call(evidence: Evidence, rank: int, sequence: int, *, group: str = "0", **about: object) -> None:
    """One of a rank's calls: it began a second ago on its clock, and has ended unless ``end`` is ``None``."""
    now = evidence.last_sign[rank]
    fields: dict[str, object] = {"operation": "all_reduce", "size": 100, "start": now - 10**9, "end": now, **about}
    calls = evidence.calls.setdefault(group, {}).setdefault(rank, {})
    calls[sequence] = CallSeen(**fields)  # type: ignore[arg-type]  # a test names fields as it likes
