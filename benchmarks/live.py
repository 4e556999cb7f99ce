"""What the rank that diagnoses needs for the digests of all ranks: CPU, memory, bytes."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Iterator
from typing import Any

import torch.distributed as dist

from benchmarks.measuring import Line, Size, spread
from otel_netmon.diagnosis.steps import StepSample
from otel_netmon.live.digest import Digest, DigestedStep, GroupHead, pack
from otel_netmon.live.exchange import Exchange
from otel_netmon.live.judge import Judge
from otel_netmon.records import PeerTraffic

STEP = 0.5
"""Seconds."""
PER_HOST = 8
LATE = 0.04
_MANY = 10_000
"""Ranks, for which there is a target."""


def digests(ranks: int, number: int, *, late: int, steps: int = 8) -> Iterator[bytes]:
    """The digests of all ranks at one moment, the last ``steps`` steps in each, rank ``late`` 40 ms late."""
    noise = random.Random(number)
    first = number * 4
    for rank in range(ranks):
        rows = []
        for step in range(first, first + steps):
            own = 0.2 + noise.gauss(0, 0.004) + LATE * (rank == late)
            start = int((step * STEP) * 1e9) + rank
            sample = StepSample(
                *(start, start + int(STEP * 1e9), STEP - own, 0.001, 0.0, own, 0.002, own),
                calls=25,
                size=2_000_000_000,
            )
            rows.append(DigestedStep(step, step * 7919, sample))
        host = rank // PER_HOST
        peers = [
            _traffic(other * PER_HOST, number)
            for other in ((host - 1), (host + 1))
            if 0 <= other * PER_HOST < ranks
        ]
        groups = (
            GroupHead("0", ranks, first + steps, first + steps),
            GroupHead(f"tp{host}", 8, 8 * first, 8 * first),
        )
        yield pack(
            Digest(
                rank,
                ranks,
                f"node{host}",
                number,
                int(number * 2e9),
                None,
                False,
                0,
                tuple(rows),
                tuple(peers),
                groups,
            )
        )


def _traffic(peer: int, number: int) -> PeerTraffic:
    nothing: dict[str, Any] = dict.fromkeys(
        ("host", "rtt_variation", "rwnd_limited_time", "sndbuf_limited_time", "delivery_rate", "bytes_received")
    )
    return PeerTraffic(
        peer=peer, interval=2.0, connections=1, bytes_sent=500_000_000, segments_sent=60_000, retransmits=3,
        rtt=3e-4, min_rtt=1e-4, busy_time=0.5, backoff=0, unacked=0, unread=0, at=int(number * 2e9), **nothing,
    )  # fmt: skip


def looking(size: Size) -> Iterator[Line]:
    """One look at the digests of all ranks, and the store that they pass through."""
    for ranks in (100, 1000, size(10_000, 200)):
        yield from _of(ranks, size(24, 3))


def _of(ranks: int, looks: int) -> Iterator[Line]:
    judge, late, what = Judge(), ranks // 3, f"live diagnosis of {ranks:,} ranks"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    costs: list[float] = []
    named: set[tuple[int, ...]] = set()
    for number in range(1, looks + 1):
        some = list(digests(ranks, number, late=late))
        look = judge.look(float(number), enumerate(some))
        costs.append(look.cost)
        named |= {change.finding.ranks for change in look.changes}
    if looks > 10 and named != {(late,)}:
        raise RuntimeError(f"rank {late} is late, and {named} was named")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    many = ranks == _MANY
    # The first looks have no window of steps yet.
    yield Line(f"{what}: a look, CPU", "s", spread(costs[len(costs) // 2 :]), most=1.0 if many else None)
    yield Line(f"{what}: memory", "MiB", spread([grown]), most=512.0 if many else None)
    yield Line(f"{what}: digest of a rank, every 2 s", "By", spread([sum(map(len, some)) / ranks]))
    yield from _through_a_store(what, some)


def _through_a_store(what: str, some: list[bytes]) -> Iterator[Line]:
    """Time of the clock; one client writes for all ranks."""
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    exchange = Exchange(server, "bench")
    since = time.perf_counter()
    for rank, digest in enumerate(some):
        exchange.publish(rank, digest)
    written = time.perf_counter() - since
    times = []
    for _ in range(5):
        since = time.perf_counter()
        assert sum(1 for _ in exchange.read(range(len(some)))) == len(some)
        times.append(time.perf_counter() - since)
    yield Line(f"{what}: a store takes a digest of each", "s", spread([written]))
    yield Line(f"{what}: reading all of them from the store", "s", spread(times))
