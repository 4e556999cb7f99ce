"""From readings of single connections to totals per peer host, and to the traffic of pairs of ranks. No I/O."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from otel_netmon.job.peers import Connection, Peer
from otel_netmon.monitors.tcp_info import SocketReading, TcpInfo
from otel_netmon.records import HostTraffic, PeerTraffic

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


class ConnectionDelta(NamedTuple):
    """What one connection did since the sample before: ``counts`` by our names (times in µs), of what this kernel
    counts; and the reading as it is now."""

    reading: SocketReading
    counts: dict[str, int]

    @property
    def sent(self) -> bool:
        """Whether something of ours was acknowledged: only then is the round-trip time a new one."""
        return self.counts.get("bytes_sent", self.counts["retransmits"]) > 0

    @property
    def moved(self) -> bool:
        """Whether there is anything to tell: traffic, or data that is stuck."""
        stuck = self.reading.send_queue or self.reading.receive_queue or self.reading.info.backoff
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
    """Connections to one peer: what they counted since the start, closed ones too, and the last sample's."""

    counts: Counter[str] = field(default_factory=Counter)
    now: list[ConnectionDelta] = field(default_factory=list)

    def add(self, one: ConnectionDelta) -> None:
        """Count one connection of this sample."""
        self.now.append(one)
        self.counts.update(one.counts)

    def longest(self, time_: str) -> float | None:
        """The longest of a time (s) that comes with a new round trip."""
        return max(self._times(time_), default=None)

    def shortest(self, time_: str) -> float | None:
        """The shortest of one."""
        return min(self._times(time_), default=None)

    def _times(self, time_: str) -> Iterator[float]:
        return (getattr(one.reading.info, time_) * _MICRO for one in self.now if one.sent and one.reading.info.rtt)

    def min_rtt(self) -> float | None:
        """The shortest round trip (s) that the kernel remembers of those that sent."""
        # before the first sample of a connection min_rtt is all ones
        known = (one.reading.info.min_rtt for one in self.now if one.sent)
        return min((value * _MICRO for value in known if value and value < 0xFFFFFFFF), default=None)

    def common(self) -> dict[str, Any]:
        """What series and ``PeerTraffic`` both tell; what the kernel does not count is absent."""
        rates = (one.reading.info.delivery_rate for one in self.now if one.sent and one.reading.info.delivery_rate)
        return {
            **{name: count * _MICRO if name.endswith("_time") else count for name, count in self.counts.items()},
            "connections": len(self.now),
            "rtt_variation": self.longest("rttvar"),
            "delivery_rate": max(rates, default=None),
            "backoff": max((one.reading.info.backoff for one in self.now), default=None),
            "unacked": sum(one.reading.send_queue for one in self.now) if self.now else None,
            "unread": sum(one.reading.receive_queue for one in self.now) if self.now else None,
        }

    def series(self) -> dict[str, Any]:
        """Those of the TCP monitor, by its names."""
        rtts = [one.reading.info.rtt * _MICRO for one in self.now if one.sent and one.reading.info.rtt]
        mean = sum(rtts) / len(rtts) if rtts else None
        return {**self.common(), "rtt": mean, "rtt_max": self.longest("rtt"), "rtt_min": self.min_rtt()}


def peer_traffic(deltas: Iterable[tuple[str, Peer, ConnectionDelta]], interval: float) -> list[PeerTraffic]:
    """What moved between this rank and each other one in ``interval`` (s), or is stuck; deltas come with the
    address of the peer."""
    by_peer: defaultdict[tuple[int, str | None], PeerTotals] = defaultdict(PeerTotals)
    busiest: dict[tuple[int, str | None], tuple[int, str]] = {}
    for address, peer, one in deltas:
        if peer.rank is not None and not peer.is_store:
            pair = peer.rank, peer.host
            by_peer[pair].add(one)
            moved = one.counts.get("bytes_sent", 0) + one.counts.get("bytes_received", 0)
            busiest[pair] = max(busiest.get(pair, (-1, "")), (moved, address))
    found: list[PeerTraffic] = []
    at = time.monotonic_ns()
    for (rank, host), totals in by_peer.items():
        if any(one.moved for one in totals.now):
            known = {**dict.fromkeys(_COUNTERS), **totals.common()}
            del known["segments_received"]
            found.append(
                PeerTraffic(
                    peer=rank,
                    host=host,
                    interval=interval,
                    rtt=totals.longest("rtt"),
                    shortest_rtt=totals.shortest("rtt"),
                    min_rtt=totals.min_rtt(),
                    address=busiest[rank, host][1],
                    at=at,
                    **known,
                )
            )
    return found


def nic_traffic(
    deltas: Mapping[Connection, ConnectionDelta],
    names: Mapping[str, str],
    before: Mapping[str, tuple[int, int]],
    now: Mapping[str, tuple[int, int]],
    interval: float,
) -> list[HostTraffic]:
    """What each NIC moved in ``interval`` (s), and the connections with it. ``names``: the NIC of each of this
    host's addresses; ``before`` and ``now``: bytes received and sent. Only of NICs that the connections used."""
    job: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one, moved in deltas.items():
        name = names.get(one.local.address)
        if name is not None and one.remote.address not in names:  # else it leaves no NIC
            job[name].update({key: moved.counts.get(key, 0) for key in ("bytes_sent", "bytes_received")})
    found: list[HostTraffic] = []
    at = time.monotonic_ns()
    for name, own in job.items():
        if name not in before or name not in now or not own.total():
            continue
        received, sent = (after - start for after, start in zip(now[name], before[name], strict=True))
        if received >= 0 and sent >= 0:  # else it was reset
            about = name, interval, sent, received, own["bytes_sent"], own["bytes_received"]
            found.append(HostTraffic(*about, at=at))
    return found
