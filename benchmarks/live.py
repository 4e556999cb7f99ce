"""What the rank that diagnoses needs for the digests of all ranks: CPU, memory, bytes."""

from __future__ import annotations

import random
import resource
import time
from collections.abc import Iterator
from typing import Any

from otel_netmon.diagnosis.diagnose import diagnose
from otel_netmon.diagnosis.finding import Finding
from otel_netmon.diagnosis.steps import StepSample
from otel_netmon.live.digest import Digest, DigestedStep, GroupHead, pack, unpack
from otel_netmon.live.merger import Merger
from otel_netmon.records import PeerTraffic

STEP = 0.5
"""Seconds."""
PER_HOST = 8
LATE = 0.04


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


def one_interval(ranks: int, looks: int = 12) -> dict[str, float | tuple[Finding, ...]]:
    """CPU seconds of the last look (reading and diagnosing), bytes of a digest, MiB of all."""
    merger, late = Merger(), ranks // 3
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    taken = judged = size = 0.0
    found: tuple[Finding, ...] = ()
    for number in range(1, looks + 1):
        some = list(digests(ranks, number, late=late))
        size = sum(map(len, some)) / ranks
        since = time.process_time()
        for data in some:
            digest = unpack(data)
            assert digest is not None
            merger.take(digest, float(number))
        taken = time.process_time() - since
        since = time.process_time()
        found = diagnose(merger.evidence(float(number)), live=True)
        judged = time.process_time() - since
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"taken": taken, "judged": judged, "bytes": size, "mebibytes": grown, "found": found}


if __name__ == "__main__":
    import sys

    for count in map(int, sys.argv[1:] or ["100", "1000", "10000"]):
        print(count, one_interval(count))
