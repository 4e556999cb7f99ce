"""What the metrics of one process say of its host and peers, with the times of the samples, not of the exports."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from otel_netmon import semconv
from otel_netmon.diagnosis.evidence import Reading
from otel_netmon.diagnosis.thresholds import BACKOFF
from otel_netmon.records import HostSample, Value

_COUNTERS: Final = frozenset(metric.name for metric in (semconv.NIC_IO, semconv.TCP_IO, semconv.CGROUP_THROTTLED))
_MONITORS: Final = frozenset(semconv.SAMPLED_BY.values())
_SAME: Final = 1_000_000
"""Nanoseconds by which the times of one sample differ at most, where several exports tell of it."""


@dataclass
class Peer:
    """Who is behind an address."""

    ranks: set[int] = field(default_factory=set)
    host: str | None = None


@dataclass
class Samples:
    """Takes the points of one process in any order within an export. Memory: some 100 bytes for each point of the
    metrics that a diagnosis needs."""

    peers: dict[str, Peer] = field(default_factory=lambda: defaultdict(Peer))
    """By address, or by host where metrics name that."""
    _backed_off: dict[str, int] = field(default_factory=dict)
    """By peer, the last export that said so."""
    _counters: dict[tuple[str, tuple[tuple[str, Value], ...]], list[Reading]] = field(
        default_factory=lambda: defaultdict(list)
    )
    _floors: dict[str, list[Reading]] = field(default_factory=lambda: defaultdict(list))
    _ages: dict[tuple[str, int], int] = field(default_factory=dict)
    """By monitor and time of the export, in nanoseconds."""

    def add(self, point: HostSample) -> None:
        """Take one point."""
        metric, about = point.metric, point.attributes
        peer = about.get(semconv.PEER_ADDRESS) or about.get(semconv.PEER_HOST)
        if metric in _COUNTERS and not point.is_delta:
            self._counters[metric, tuple(sorted(about.items()))].append((point.time, point.value))
        elif metric == semconv.MONITOR_AGE.name and about.get(semconv.MONITOR_NAME) in _MONITORS:
            self._ages[str(about[semconv.MONITOR_NAME]), point.time] = int(point.value * 1e9)
        elif not isinstance(peer, str):
            return
        elif metric == semconv.TCP_BACKOFF.name and point.value >= BACKOFF and _is_training(point):
            self._backed_off[peer] = max(point.time, self._backed_off.get(peer, 0))
        elif metric == semconv.PEER_INFO.name:
            self.met(peer, about.get(semconv.PEER_RANK), about.get(semconv.PEER_HOST))
        elif metric == semconv.PEER_LATENCY_MIN.name:
            self._floors[peer].append((point.time, point.value))

    def met(self, address: str | None, rank: Value | None, host: Value | None) -> None:
        """Remember who is behind an address. In ClickHouse's tables a rank is text."""
        if address is not None and rank is not None and str(rank).isdecimal():
            peer = self.peers[address]
            peer.ranks.add(int(rank))
            peer.host = peer.host if host is None else str(host)

    def backed_off(self) -> Iterator[tuple[int | str, int]]:
        """Peers to which retransmissions backed off, and when that was last seen; as ranks, where no more than one
        is behind an address."""
        for peer, exported in self._backed_off.items():
            ranks = self.peers[peer].ranks if peer in self.peers else set()
            yield next(iter(ranks)) if len(ranks) == 1 else peer, self._at(semconv.TCP_BACKOFF.name, exported)

    def counters(self) -> Iterator[tuple[str, tuple[tuple[str, Value], ...], list[Reading]]]:
        """Metric, attributes and readings of each running total."""
        for (metric, about), readings in self._counters.items():
            yield metric, about, self._sampled(metric, readings)

    def floors(self, hosts: Mapping[int, str]) -> Iterator[tuple[str, list[Reading]]]:
        """By host, as ``hosts`` or the peer itself calls it, the shortest round-trip times of probes to it."""
        for peer, readings in self._floors.items():
            known = self.peers[peer] if peer in self.peers else Peer()
            called = next((hosts[rank] for rank in known.ranks if hosts.get(rank)), known.host)
            yield called or peer, self._sampled(semconv.PEER_LATENCY_MIN.name, readings)

    def _at(self, metric: str, exported: int) -> int:
        """When a value was measured, and not when it was exported, as far as the monitor's age was."""
        return exported - self._ages.get((semconv.SAMPLED_BY[metric], exported), 0)

    def _sampled(self, metric: str, readings: list[Reading]) -> list[Reading]:
        """By the time of the sample, and each once."""
        found: list[Reading] = []
        for exported, value in sorted(readings):
            at = self._at(metric, exported)
            if found and at - found[-1][0] < _SAME:
                found.pop()  # the same sample, told again
            found.append((at, value))
        return found


def _is_training(point: HostSample) -> bool:
    return point.attributes.get(semconv.TCP_USE) == semconv.USE_COLLECTIVES
