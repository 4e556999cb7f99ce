"""From readings of single connections to sums per peer host, and to readings per pair of ranks. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from otel_netmon.job.peers import Peer
from otel_netmon.monitors.sock_diag import Socket, TcpInfo
from otel_netmon.monitors.values import TcpPeerStats
from otel_netmon.records import PeerTraffic

_MICRO: Final = 1e-6


class Key(NamedTuple):
    """What a series is about: the peer's address or host, by configuration, and what the connections are for."""

    where: str | None
    use: str


class Step(NamedTuple):
    """What one connection did since the sample before: counters as differences, the rest as they are now."""

    socket: Socket
    info: TcpInfo
    bytes_sent: int | None
    bytes_received: int | None
    segments_sent: int | None
    segments_received: int | None
    retransmits: int
    busy: int | None
    rwnd_limited: int | None
    sndbuf_limited: int | None

    @property
    def sent(self) -> bool:
        """Whether something of ours was acknowledged: only then is the round-trip time a new one."""
        return bool(self.bytes_sent) or (self.bytes_sent is None and self.retransmits > 0)

    @property
    def moved(self) -> bool:
        """Whether there is anything to tell: traffic, or data that is stuck."""
        info, one = self.info, self.socket
        stuck = one.send_queue or one.receive_queue or info.backoff
        return bool(self.sent or self.bytes_received or self.retransmits or stuck)


_FIRST: Final = TcpInfo(*(0,) * len(TcpInfo._fields))


def step(socket: Socket, info: TcpInfo, before: TcpInfo | None) -> Step:
    """The difference of two readings of one connection; from its beginning where there is none before.

    A counter that the kernel does not have is ``None``.
    """
    old = before or _FIRST
    return Step(
        socket,
        info,
        _since(info.bytes_acked, old.bytes_acked),
        _since(info.bytes_received, old.bytes_received),
        _since(info.data_segs_out, old.data_segs_out),
        _since(info.data_segs_in, old.data_segs_in),
        _since(info.total_retrans, old.total_retrans) or 0,
        _since(info.busy_time, old.busy_time),
        _since(info.rwnd_limited, old.rwnd_limited),
        _since(info.sndbuf_limited, old.sndbuf_limited),
    )


def _since(now: int | None, before: int | None) -> int | None:
    return None if now is None or before is None else max(0, now - before)


@dataclass
class Totals:
    """Sums over the connections of one series since the start; closed ones stay in."""

    sent: int = 0
    received: int = 0
    segments_sent: int = 0
    segments_received: int = 0
    retransmits: int = 0
    busy: int = 0
    rwnd_limited: int = 0
    sndbuf_limited: int = 0
    knows_bytes: bool = False
    knows_segments: bool = False
    knows_time: bool = False
    now: list[Step] = field(default_factory=list)
    """The connections of the last sample."""

    def add(self, one: Step) -> None:
        """Count one connection of this sample."""
        self.now.append(one)
        self.retransmits += one.retransmits
        if one.bytes_sent is not None and one.bytes_received is not None:
            self.knows_bytes = True
            self.sent += one.bytes_sent
            self.received += one.bytes_received
        if one.segments_sent is not None and one.segments_received is not None:
            self.knows_segments = True
            self.segments_sent += one.segments_sent
            self.segments_received += one.segments_received
        if one.busy is not None and one.rwnd_limited is not None and one.sndbuf_limited is not None:
            self.knows_time = True
            self.busy += one.busy
            self.rwnd_limited += one.rwnd_limited
            self.sndbuf_limited += one.sndbuf_limited

    def stats(self, key: Key) -> TcpPeerStats:
        """All of it as a value; what the kernel does not count is ``None``."""
        rtts = [one.info.rtt * _MICRO for one in self.now if one.sent and one.info.rtt]
        return TcpPeerStats(
            peer=key.where,
            use=key.use,
            connections=len(self.now),
            bytes_sent=self.sent if self.knows_bytes else None,
            bytes_received=self.received if self.knows_bytes else None,
            segments_sent=self.segments_sent if self.knows_segments else None,
            segments_received=self.segments_received if self.knows_segments else None,
            retransmits=self.retransmits,
            busy_time=self.busy * _MICRO if self.knows_time else None,
            rwnd_limited_time=self.rwnd_limited * _MICRO if self.knows_time else None,
            sndbuf_limited_time=self.sndbuf_limited * _MICRO if self.knows_time else None,
            rtt=sum(rtts) / len(rtts) if rtts else None,
            rtt_max=max(rtts, default=None),
            rtt_variation=_worst(self.now, lambda i: i.rttvar),
            rtt_min=_least(self.now),
            delivery_rate=_fastest(self.now),
            backoff=max((one.info.backoff for one in self.now), default=None),
            unacked=sum(one.socket.send_queue for one in self.now) if self.now else None,
            unread=sum(one.socket.receive_queue for one in self.now) if self.now else None,
        )


def _worst(steps: list[Step], read: Callable[[TcpInfo], int]) -> float | None:
    return max((read(one.info) * _MICRO for one in steps if one.sent and one.info.rtt), default=None)


def _least(steps: list[Step]) -> float | None:
    # before the first sample of a connection min_rtt is all ones
    known = (one.info.min_rtt for one in steps if one.sent)
    return min((value * _MICRO for value in known if value and value < 0xFFFFFFFF), default=None)


def _fastest(steps: list[Step]) -> int | None:
    return max((one.info.delivery_rate for one in steps if one.sent and one.info.delivery_rate), default=None)


def pair_readings(steps: list[tuple[Peer, Step]], interval: float) -> list[PeerTraffic]:
    """One reading per peer rank between which and this one anything moved, or is stuck."""
    by_peer: dict[tuple[int, str | None], list[Step]] = {}
    for peer, one in steps:
        if peer.rank is not None and not peer.is_store:
            by_peer.setdefault((peer.rank, peer.host), []).append(one)
    at = time.monotonic_ns()
    return [
        PeerTraffic(
            at=at,
            interval=interval,
            peer=rank,
            host=host,
            connections=len(each),
            bytes_sent=_sum(one.bytes_sent for one in each),
            bytes_received=_sum(one.bytes_received for one in each),
            segments_sent=_sum(one.segments_sent for one in each),
            retransmits=sum(one.retransmits for one in each),
            rtt=_worst(each, lambda i: i.rtt),
            rtt_variation=_worst(each, lambda i: i.rttvar),
            min_rtt=_least(each),
            busy_time=_seconds(_sum(one.busy for one in each)),
            rwnd_limited_time=_seconds(_sum(one.rwnd_limited for one in each)),
            sndbuf_limited_time=_seconds(_sum(one.sndbuf_limited for one in each)),
            delivery_rate=_fastest(each),
            backoff=max(one.info.backoff for one in each),
            unacked=sum(one.socket.send_queue for one in each),
            unread=sum(one.socket.receive_queue for one in each),
        )
        for (rank, host), each in by_peer.items()
        if any(one.moved for one in each)
    ]


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _seconds(micro: int | None) -> float | None:
    return None if micro is None else micro * _MICRO
