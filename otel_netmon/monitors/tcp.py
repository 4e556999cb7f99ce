"""The training's own TCP connections: traffic, round-trip times, retransmissions, and what held sending up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from typing import ClassVar, Final

from otel_netmon import config, semconv
from otel_netmon.job import peers
from otel_netmon.job.peers import Connection, Directory, HostTrafficBuffer, Peer, PeerTrafficBuffer
from otel_netmon.monitors.base import Monitor
from otel_netmon.monitors.own_nics import Moved, OwnNics
from otel_netmon.monitors.own_sockets import Descriptor, OwnSockets
from otel_netmon.monitors.points import Point, Row, attributes, points_of
from otel_netmon.monitors.tcp_info import SocketReading, TcpInfo
from otel_netmon.monitors.tcp_traffic import ConnectionDelta, PeerTotals, delta, nic_traffic, peer_traffic

_MAX_HOSTS: Final = 4096
MAX_NAMED: Final = 64
"""Peers that metrics name: in a full mesh, as gloo makes one, each rank has as many as there are ranks."""
EVERY: Final = 2.0
"""Seconds between two samples, at most: so old is what is known of a link when it fails. As long as ..."""
FEW: Final = 128
"""... there are no more connections than these: a sample of 1,000 takes 8 ms."""
_ROWS: Final[tuple[Row, ...]] = (
    (semconv.TCP_IO, "bytes_received", "bytes_sent"),
    (semconv.TCP_SEGMENTS, "segments_received", "segments_sent"),
    (semconv.TCP_RETRANSMITS, "retransmits"),
    (semconv.TCP_BUSY, "busy_time"),
    (semconv.TCP_RWND_LIMITED, "rwnd_limited_time"),
    (semconv.TCP_SNDBUF_LIMITED, "sndbuf_limited_time"),
    (semconv.TCP_CONNECTIONS, "connections"),
    (semconv.TCP_RTT, "rtt"),
    (semconv.TCP_RTT_MAX, "rtt_max"),
    (semconv.TCP_RTT_VARIATION, "rtt_variation"),
    (semconv.TCP_RTT_MIN, "rtt_min"),
    (semconv.TCP_DELIVERY_RATE, "delivery_rate"),
    (semconv.TCP_BACKOFF, "backoff"),
    (semconv.TCP_UNACKED, "unacked"),
    (semconv.TCP_UNREAD, "unread"),
)


class TcpMonitor(Monitor):
    """Watches this process's TCP connections to other ranks of its job, and to the store, and how much of what
    their NICs carry is theirs; sends nothing.

    ``directory`` knows which of its connections are the training's, and to whom they lead: by default what the
    captured job's ranks told one another through the store of their process group; without one there is nothing to
    watch. Other connections of the process (an exporter's, a data loader's) are never read. Linux only.

    A sample costs some 2 µs per open socket, 10 µs per connection of the training, and 30 µs for the NICs.
    """

    name: ClassVar[str] = "tcp"
    metrics: ClassVar[tuple[semconv.Metric, ...]] = (*(row[0] for row in _ROWS), semconv.PEER_INFO)

    def __init__(
        self,
        *,
        directory: Directory | None = None,
        readings: PeerTrafficBuffer | None = None,
        nic_readings: HostTrafficBuffer | None = None,
        sockets: OwnSockets | None = None,
        nics: OwnNics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(clock=clock)
        self._directory = directory
        self._readings = readings
        self._nic_readings = nic_readings
        self._sockets = sockets or OwnSockets()
        self._nics = nics or OwnNics()
        self._by = config.current().peer_attribute
        self._begin()

    @property
    def longest_interval(self) -> float:
        return EVERY if len(self._before) <= FEW else math.inf

    def _begin(self) -> None:
        self._before: dict[tuple[Connection, int], TcpInfo] = {}
        self._read_at: float | None = None
        self._totals: dict[tuple[tuple[str, str], ...], PeerTotals] = {}
        self._moved: dict[str, Moved] = {}
        self._named: list[tuple[tuple[str, str | int], ...]] = []

    def sample(self) -> tuple[Point, ...]:
        """One reading. Raises OSError, or what the job's store raises."""
        directory = self._directory or peers.directory
        if directory is None:
            return self.points()
        own = self._sockets.connections()
        known = directory.exchange(list(own))
        found = self._sockets.read({one: fd for one, fd in own.items() if one in known})
        names, before, self._moved = self._read_nics(found)
        deltas = self._deltas(own, found)
        for totals in self._totals.values():
            totals.now = []
        for one, moved in deltas.items():
            about = self._about(one, known[one])
            if about not in self._totals and len(self._totals) >= _MAX_HOSTS:
                about = about[:1]
            self._totals.setdefault(about, PeerTotals()).add(moved)
        at = self._clock()
        if self._read_at is not None and at > self._read_at:
            with_peers = ((one.remote.address, known[one], moved) for one, moved in deltas.items())
            traffic = peer_traffic(with_peers, at - self._read_at)
            (self._readings or peers.readings).extend(traffic)
            of_nics = nic_traffic(deltas, names, before, self._moved, at - self._read_at)
            (self._nic_readings or peers.nic_readings).extend(of_nics)
        self._read_at = at
        series = self._totals.items()
        points = (point for about, totals in series for point in points_of(_ROWS, totals.series().get, *about))
        return (*points, *self._infos(known, deltas))

    def _read_nics(
        self, found: Collection[Connection]
    ) -> tuple[dict[str, str], dict[str, Moved], dict[str, Moved]]:
        """The NICs by address, and what they had moved at the reading before, and now: right after the connections
        were read. Nothing where that cannot be read: the connections count all the same."""
        try:
            names = self._nics.names({end.address for one in found for end in one})
            return names, self._moved, self._nics.read({*names.values()})
        except (OSError, ValueError, IndexError) as error:
            self._log_once(error)
            return {}, {}, {}

    def _infos(self, known: dict[Connection, Peer], deltas: dict[Connection, ConnectionDelta]) -> list[Point]:
        """Who is behind an address, as far as the configuration lets peers be named at all; of many, those that
        most was moved to and from when they were first seen."""
        if self._by == "none":
            return []
        found: dict[tuple[tuple[str, str | int], ...], int] = {}
        for one, peer in known.items():
            if peer.rank is not None and peer.host is not None and not peer.is_store:
                about = (semconv.PEER_RANK, peer.rank), (semconv.PEER_HOST, peer.host)
                address = ((semconv.PEER_ADDRESS, one.remote.address),) if self._by == "address" else ()
                counts = deltas[one].counts if one in deltas else {}
                moved = counts.get("bytes_sent", 0) + counts.get("bytes_received", 0)
                attributes_of = (*address, *about)
                found[attributes_of] = found.get(attributes_of, 0) + moved
        self._named = [about for about in self._named if about in found]
        named = {*self._named}
        new = sorted((about for about in found if about not in named), key=lambda about: -found[about])
        self._named += new[: MAX_NAMED - len(self._named)]
        return [Point(semconv.PEER_INFO, 1, attributes(*about)) for about in self._named]

    def _deltas(
        self, own: dict[Connection, Descriptor], found: dict[Connection, SocketReading]
    ) -> dict[Connection, ConnectionDelta]:
        open_now = {(one, descriptor.inode) for one, descriptor in own.items()}
        # what could not be read this time counts on the next time, and not from its beginning
        before = {identity: info for identity, info in self._before.items() if identity in open_now}
        deltas: dict[Connection, ConnectionDelta] = {}
        for one, reading in found.items():
            identity = (one, reading.inode)
            deltas[one] = delta(reading, before.get(identity))
            before[identity] = reading.info
        self._before = before
        return deltas

    def _about(self, one: Connection, peer: Peer) -> tuple[tuple[str, str], ...]:
        """The attributes of a connection's series: what it is for, and the peer as the configuration names it."""
        use = (semconv.TCP_USE, semconv.USE_STORE if peer.is_store else semconv.USE_COLLECTIVES)
        if self._by == "address":
            return use, (semconv.PEER_ADDRESS, one.remote.address)
        if self._by == "host" and peer.host is not None:
            return use, (semconv.PEER_HOST, peer.host)
        return (use,)

    def after_fork_in_child(self) -> None:
        super().after_fork_in_child()
        self._sockets = OwnSockets()
        self._begin()
