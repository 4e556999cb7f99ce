"""What the ranks of a simulated job read of their connections and NICs, every ten seconds as they would."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from benchmarks.planted import host_name
from benchmarks.simulated import CALLS, LINE, PIPE_SIZE, Job
from otel_netmon.records import HostTraffic, PeerTraffic

PERIOD: Final = 10.0
"""Seconds between two readings: what the monitor takes by default."""
_SEGMENT: Final = 8948
"""Bytes of a jumbo frame's segment."""
_RTT: Final = 4e-4
_ACKNOWLEDGED: Final = 0.003
"""Bytes that come back on a way on which next to nothing is sent, as a share."""


class Reading(NamedTuple):
    """What one rank read at one time, in seconds of the true time."""

    at: float
    peers: tuple[PeerTraffic, ...]
    nic: HostTraffic


def readings(job: Job, rank: int) -> Iterator[Reading]:
    """Those of one rank, in the order of time."""
    shape = job.shape
    host, local = divmod(rank, shape.tensor)
    stage, copy = divmod(host, shape.data)
    ring = sum(call.size for call in CALLS if call.axis == "data") * 2 * (shape.data - 1) / shape.data / 2
    moved: dict[int, float] = {}
    """Bytes of a step, by host."""
    if shape.data > 1:
        behind, before = ((copy + way) % shape.data + stage * shape.data for way in (1, -1))
        moved[before] = ring * _ACKNOWLEDGED
        moved[behind] = moved.get(behind, 0.0) + ring
    for way in (1, -1):
        if 0 <= stage + way < shape.pipeline:
            moved[host + way * shape.data] = PIPE_SIZE
    first = job.steps[0].begin.min() + 0.5 + PERIOD * float(job.noise.random())
    steps_a_second = len(job.steps) / job.seconds
    noise = job.noise.standard_normal((int(job.seconds // PERIOD) + 2, len(moved), 3)).tolist()
    for number, some in enumerate(noise):
        at = first + number * PERIOD
        if at > job.steps[-1].end[rank]:
            return
        peers = tuple(
            _reading(
                job, rank, (host, other), other * shape.tensor + local, size * steps_a_second * PERIOD, each, at
            )
            for (other, size), each in zip(moved.items(), some, strict=True)
        )
        sent, received = (
            int(sum(each))
            for each in zip(*((one.bytes_sent or 0, one.bytes_received or 0) for one in peers), strict=True)
        )
        yield Reading(
            at,
            peers,
            HostTraffic(f"eth{local}", PERIOD, int(1.02 * sent), int(1.02 * received), sent, received, rank),
        )


def _reading(
    job: Job,
    rank: int,
    hosts: tuple[int, int],
    peer: int,
    size: float,
    noise: tuple[float, float, float],
    at: float,
) -> PeerTraffic:
    here, there = hosts
    is_broken = at > job.broken_at
    share = min(job.rates[here], job.into[there]) if is_broken else 1.0
    back = min(job.rates[there], job.into[here]) if is_broken else 1.0
    loss = job.losses[here] if is_broken else job.losses.min()
    sent = int(size * (1 + 0.01 * noise[0]))
    rtt = _RTT * (1 + 0.1 * abs(noise[1])) * (3.0 if share < 1 and loss < 1e-3 else 1.0)
    segments = sent // _SEGMENT + 4
    return PeerTraffic(
        peer=peer,
        host=host_name(there),
        interval=PERIOD,
        connections=1,
        bytes_sent=sent,
        bytes_received=int(size * back),
        segments_sent=segments,
        retransmits=int(job.noise.poisson(segments * loss)),
        rtt=round(rtt, 6),
        rtt_variation=round(rtt / 4, 6),
        min_rtt=2.1e-4,
        busy_time=round(sent / (LINE * share * (1 + 0.04 * noise[2])), 4),
        rwnd_limited_time=0.0,
        sndbuf_limited_time=0.0,
        delivery_rate=int(LINE * share),
        backoff=0,
        unacked=0,
        unread=0,
        rank=rank,
        shortest_rtt=round(rtt, 6),
        address=f"10.{there >> 8}.{there & 255}.{1 + peer % job.shape.tensor}",
    )
