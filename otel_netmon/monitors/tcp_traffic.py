"""From readings of single connections to totals per peer host, and to the traffic of pairs of ranks. No I/O."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from otel_netmon.job.peers import Peer
from otel_netmon.monitors.tcp_info import SocketReading, TcpInfo
from otel_netmon.monitors.values import TcpPeerStats
from otel_netmon.records import PeerTraffic

_MICRO: Final = 1e-6
_COUNTERS: Final = {
    "bytes_sent": "bytes_acked",
    "bytes_received": "bytes_received",
    "segments_sent": "data_segs_out",
    "segments_received": "data_segs_in",
    "retransmits": "total_retrans",
    "busy_time": "busy_time",
    "rwnd_limited_time": "rwnd_limited",
    "sndbuf_limited_time": "sndbuf_limited",
}
"""What is counted, by our names; and the kernel's."""


class PeerUse(NamedTuple):
    """What a series is about: the peer's address or host, by configuration, and what the connections are for."""

    where: str | None
    use: str


class ConnectionDelta(NamedTuple):
    """What one connection did since the sample before: ``counts`` by our names (times in µs), of what this kernel
    counts; and the reading as it is now."""

    reading: SocketReading
    counts: dict[str, int]

    @property
    def info(self) -> TcpInfo:
        """As it is now."""
        return self.reading.info

    @property
    def sent(self) -> bool:
        """Whether something of ours was acknowledged: only then is the round-trip time a new one."""
        return self.counts.get("bytes_sent", self.counts["retransmits"]) > 0

    @property
    def moved(self) -> bool:
        """Whether there is anything to tell: traffic, or data that is stuck."""
        stuck = self.reading.send_queue or self.reading.receive_queue or self.info.backoff
        return bool(self.sent or self.counts.get("bytes_received") or self.counts["retransmits"] or stuck)


def delta(reading: SocketReading, before: TcpInfo | None) -> ConnectionDelta:
    """The difference of two readings of one connection; from its beginning where there is none before."""
    counts: dict[str, int] = {}
    for name, kernels in _COUNTERS.items():
        now, old = getattr(reading.info, kernels), 0 if before is None else getattr(before, kernels)
        if now is not None and old is not None:
            counts[name] = max(0, now - old)
    return ConnectionDelta(reading, counts)


@dataclass
class PeerTotals:
    """Totals over the connections of one series since the start; closed ones stay in."""

    counts: Counter[str] = field(default_factory=Counter)
    now: list[ConnectionDelta] = field(default_factory=list)
    """The connections of the last sample."""

    def add(self, one: ConnectionDelta) -> None:
        """Count one connection of this sample."""
        self.now.append(one)
        self.counts.update(one.counts)

    def stats(self, about: PeerUse) -> TcpPeerStats:
        """All of it as a value; what the kernel does not count is ``None``."""
        rtts = [one.info.rtt * _MICRO for one in self.now if one.sent and one.info.rtt]
        return TcpPeerStats(
            peer=about.where,
            use=about.use,
            connections=len(self.now),
            **_in_seconds(self.counts),
            rtt=sum(rtts) / len(rtts) if rtts else None,
            rtt_max=max(rtts, default=None),
            rtt_variation=_longest(self.now, "rttvar"),
            rtt_min=_least(self.now),
            delivery_rate=_fastest(self.now),
            backoff=max((one.info.backoff for one in self.now), default=None),
            unacked=sum(one.reading.send_queue for one in self.now) if self.now else None,
            unread=sum(one.reading.receive_queue for one in self.now) if self.now else None,
        )


def peer_traffic(deltas: Iterable[tuple[Peer, ConnectionDelta]], interval: float) -> list[PeerTraffic]:
    """What moved between this rank and each other one in ``interval`` (s), or is stuck."""
    by_peer: dict[tuple[int, str | None], list[ConnectionDelta]] = {}
    for peer, one in deltas:
        if peer.rank is not None and not peer.is_store:
            by_peer.setdefault((peer.rank, peer.host), []).append(one)
    found: list[PeerTraffic] = []
    at = time.monotonic_ns()
    for (rank, host), each in by_peer.items():
        if not any(one.moved for one in each):
            continue
        counts: Counter[str] = Counter()
        for one in each:
            counts.update(one.counts)
        known = {**dict.fromkeys(_COUNTERS), **_in_seconds(counts)}
        del known["segments_received"]
        found.append(
            PeerTraffic(
                at=at,
                interval=interval,
                peer=rank,
                host=host,
                connections=len(each),
                **known,
                rtt=_longest(each, "rtt"),
                rtt_variation=_longest(each, "rttvar"),
                min_rtt=_least(each),
                delivery_rate=_fastest(each),
                backoff=max(one.info.backoff for one in each),
                unacked=sum(one.reading.send_queue for one in each),
                unread=sum(one.reading.receive_queue for one in each),
            )
        )
    return found


def _in_seconds(counts: Mapping[str, int]) -> dict[str, Any]:
    return {name: count * _MICRO if name.endswith("_time") else count for name, count in counts.items()}


def _longest(deltas: list[ConnectionDelta], time_: str) -> float | None:
    return max((getattr(one.info, time_) * _MICRO for one in deltas if one.sent and one.info.rtt), default=None)


def _least(deltas: list[ConnectionDelta]) -> float | None:
    # before the first sample of a connection min_rtt is all ones
    known = (one.info.min_rtt for one in deltas if one.sent)
    return min((value * _MICRO for value in known if value and value < 0xFFFFFFFF), default=None)


def _fastest(deltas: list[ConnectionDelta]) -> int | None:
    return max((one.info.delivery_rate for one in deltas if one.sent and one.info.delivery_rate), default=None)
