"""From readings of single connections to totals per peer host, and to the traffic of pairs of ranks. No I/O."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from otel_netmon.job.peers import Peer
from otel_netmon.monitors.tcp_info import SocketReading, TcpInfo
from otel_netmon.monitors.values import TcpPeerStats
from otel_netmon.records import PeerTraffic

_MICRO: Final = 1e-6


class PeerUse(NamedTuple):
    """What a series is about: the peer's address or host, by configuration, and what the connections are for."""

    where: str | None
    use: str


class ConnectionDelta(NamedTuple):
    """What one connection did since the sample before: counters as differences, the rest as it is now."""

    reading: SocketReading
    bytes_sent: int | None
    bytes_received: int | None
    segments_sent: int | None
    segments_received: int | None
    retransmits: int
    busy: int | None
    rwnd_limited: int | None
    sndbuf_limited: int | None

    @property
    def info(self) -> TcpInfo:
        """As it is now."""
        return self.reading.info

    @property
    def sent(self) -> bool:
        """Whether something of ours was acknowledged: only then is the round-trip time a new one."""
        return bool(self.bytes_sent) or (self.bytes_sent is None and self.retransmits > 0)

    @property
    def moved(self) -> bool:
        """Whether there is anything to tell: traffic, or data that is stuck."""
        stuck = self.reading.send_queue or self.reading.receive_queue or self.info.backoff
        return bool(self.sent or self.bytes_received or self.retransmits or stuck)


_FIRST: Final = TcpInfo(*(0,) * len(TcpInfo._fields))


def delta(reading: SocketReading, before: TcpInfo | None) -> ConnectionDelta:
    """The difference of two readings of one connection; from its beginning where there is none before.

    A counter that the kernel does not have is ``None``.
    """
    now, old = reading.info, before or _FIRST
    return ConnectionDelta(
        reading,
        _since(now.bytes_acked, old.bytes_acked),
        _since(now.bytes_received, old.bytes_received),
        _since(now.data_segs_out, old.data_segs_out),
        _since(now.data_segs_in, old.data_segs_in),
        _since(now.total_retrans, old.total_retrans) or 0,
        _since(now.busy_time, old.busy_time),
        _since(now.rwnd_limited, old.rwnd_limited),
        _since(now.sndbuf_limited, old.sndbuf_limited),
    )


def _since(now: int | None, before: int | None) -> int | None:
    return None if now is None or before is None else max(0, now - before)


_COUNTED_TOGETHER: Final = (
    ("retransmits",),
    ("bytes_sent", "bytes_received"),
    ("segments_sent", "segments_received"),
    ("busy", "rwnd_limited", "sndbuf_limited"),
)
"""Kernels have all of these or none."""


@dataclass
class PeerTotals:
    """Totals over the connections of one series since the start; closed ones stay in."""

    counts: dict[str, int] = field(default_factory=dict)
    now: list[ConnectionDelta] = field(default_factory=list)
    """The connections of the last sample."""

    def add(self, one: ConnectionDelta) -> None:
        """Count one connection of this sample."""
        self.now.append(one)
        for names in _COUNTED_TOGETHER:
            values = [getattr(one, name) for name in names]
            if None not in values:
                for name, value in zip(names, values, strict=True):
                    self.counts[name] = self.counts.get(name, 0) + value

    def stats(self, about: PeerUse) -> TcpPeerStats:
        """All of it as a value; what the kernel does not count is ``None``."""
        rtts = [one.info.rtt * _MICRO for one in self.now if one.sent and one.info.rtt]
        count = self.counts.get
        return TcpPeerStats(
            peer=about.where,
            use=about.use,
            connections=len(self.now),
            bytes_sent=count("bytes_sent"),
            bytes_received=count("bytes_received"),
            segments_sent=count("segments_sent"),
            segments_received=count("segments_received"),
            retransmits=count("retransmits", 0),
            busy_time=_seconds(count("busy")),
            rwnd_limited_time=_seconds(count("rwnd_limited")),
            sndbuf_limited_time=_seconds(count("sndbuf_limited")),
            rtt=sum(rtts) / len(rtts) if rtts else None,
            rtt_max=max(rtts, default=None),
            rtt_variation=_worst(self.now, lambda i: i.rttvar),
            rtt_min=_least(self.now),
            delivery_rate=_fastest(self.now),
            backoff=max((one.info.backoff for one in self.now), default=None),
            unacked=_sum(one.reading.send_queue for one in self.now),
            unread=_sum(one.reading.receive_queue for one in self.now),
        )


def _worst(deltas: list[ConnectionDelta], read: Callable[[TcpInfo], int]) -> float | None:
    return max((read(one.info) * _MICRO for one in deltas if one.sent and one.info.rtt), default=None)


def _least(deltas: list[ConnectionDelta]) -> float | None:
    # before the first sample of a connection min_rtt is all ones
    known = (one.info.min_rtt for one in deltas if one.sent)
    return min((value * _MICRO for value in known if value and value < 0xFFFFFFFF), default=None)


def _fastest(deltas: list[ConnectionDelta]) -> int | None:
    return max((one.info.delivery_rate for one in deltas if one.sent and one.info.delivery_rate), default=None)


def peer_traffic(deltas: list[tuple[Peer, ConnectionDelta]], interval: float) -> list[PeerTraffic]:
    """What moved between this rank and each other one in ``interval`` (s), or is stuck."""
    by_peer: dict[tuple[int, str | None], list[ConnectionDelta]] = {}
    for peer, one in deltas:
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
            unacked=sum(one.reading.send_queue for one in each),
            unread=sum(one.reading.receive_queue for one in each),
        )
        for (rank, host), each in by_peer.items()
        if any(one.moved for one in each)
    ]


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _seconds(micro: int | None) -> float | None:
    return None if micro is None else micro * _MICRO
