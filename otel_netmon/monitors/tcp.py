"""The training's own TCP connections: traffic, round-trip times, retransmissions, and what held sending up."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable
from typing import ClassVar, Final

from opentelemetry.metrics import Observation

from otel_netmon import config, semconv
from otel_netmon.job import peers
from otel_netmon.job.peers import Connection, Directory, Peer, PeerTrafficBuffer
from otel_netmon.monitors.base import Monitor, Series
from otel_netmon.monitors.own_sockets import Descriptor, OwnSockets, TcpReader
from otel_netmon.monitors.sock_diag import Socket, TcpInfo
from otel_netmon.monitors.tcp_sums import Key, Step, Totals, pair_readings, step
from otel_netmon.monitors.values import TcpPeerStats

_RX: Final = semconv.DIRECTION_RECEIVE
_TX: Final = semconv.DIRECTION_TRANSMIT
_MAX_HOSTS: Final = 4096


class TcpMonitor(Monitor):
    """Watches this process's TCP connections to other ranks of its job, and to the store; sends nothing.

    Which of its connections are the training's, and to whom they lead, ``directory`` says: by default what the
    captured job's ranks told one another through the store of their process group; without one there is nothing to
    watch. Other connections of the process (an exporter's, a data loader's) are never read. Linux only.

    A sample costs some 2 µs per open socket and 10 µs per connection of the training.
    """

    name: ClassVar[str] = "tcp"

    def __init__(
        self,
        *,
        directory: Directory | None = None,
        readings: PeerTrafficBuffer | None = None,
        sockets: OwnSockets | None = None,
        reader: TcpReader | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(clock=clock)
        self._directory = directory
        self._readings = readings
        self._sockets = sockets or OwnSockets()
        self._reader = reader or TcpReader()
        self._by = config.current().peer_attribute
        self._before: dict[tuple[Connection, int], TcpInfo] = {}
        self._read_at: float | None = None
        self._totals: dict[Key, Totals] = {}
        self._latest: tuple[TcpPeerStats, ...] = ()

    @property
    def latest(self) -> tuple[TcpPeerStats, ...]:
        """The last sample, one value per peer host and use; empty before the first. No I/O."""
        with self._lock:
            return self._latest

    def sample(self) -> None:
        """One reading. Raises OSError, or what the job's store raises."""
        with self._turn() as mine:
            if mine:
                self._sample()

    def _sample(self) -> None:
        directory = self._directory or peers.directory
        if directory is None:
            return
        own = self._sockets.connections()
        known = directory.exchange(list(own))
        found = self._reader.read({one: fd for one, fd in own.items() if one in known})
        self._take(own, known, found)

    def _take(
        self, own: dict[Connection, Descriptor], known: dict[Connection, Peer], found: dict[Connection, Socket]
    ) -> None:
        at = self._clock()
        steps: list[tuple[Connection, Peer, Step]] = []
        with self._lock:
            open_now = {(one, descriptor.inode) for one, descriptor in own.items()}
            # what could not be read this time counts on the next time, and not from its beginning
            before = {identity: info for identity, info in self._before.items() if identity in open_now}
            for one, socket in found.items():
                if socket.info is None:
                    continue
                identity = (one, own[one].inode)  # the same, however the socket was read
                steps.append((one, known[one], step(socket, socket.info, before.get(identity))))
                before[identity] = socket.info
            interval = None if self._read_at is None else at - self._read_at
            self._before, self._read_at = before, at
            for totals in self._totals.values():
                totals.now = []
            for one, peer, moved in steps:
                self._sum(Key(self._where(one, peer), _use(peer)), moved)
            self._latest = tuple(totals.stats(key) for key, totals in self._totals.items())
        if interval:
            readings = self._readings or peers.readings
            readings.extend(pair_readings([s[1:] for s in steps if s[1].rank is not None], interval))

    def _sum(self, key: Key, moved: Step) -> None:
        if key not in self._totals and len(self._totals) >= _MAX_HOSTS:
            key = Key(None, key.use)
        self._totals.setdefault(key, Totals()).add(moved)

    def _where(self, one: Connection, peer: Peer) -> str | None:
        if self._by == "none":
            return None
        return one.remote.address if self._by == "address" else peer.host

    def series(self) -> tuple[Series, ...]:
        """``otel_netmon.tcp.*`` per peer host and use."""
        each, pair = self._each, self._pair
        return (
            (semconv.TCP_IO, lambda: pair(lambda s: (s.bytes_received, s.bytes_sent))),
            (semconv.TCP_SEGMENTS, lambda: pair(lambda s: (s.segments_received, s.segments_sent))),
            (semconv.TCP_RETRANSMITS, lambda: each(lambda s: s.retransmits)),
            (semconv.TCP_BUSY, lambda: each(lambda s: s.busy_time)),
            (semconv.TCP_RWND_LIMITED, lambda: each(lambda s: s.rwnd_limited_time)),
            (semconv.TCP_SNDBUF_LIMITED, lambda: each(lambda s: s.sndbuf_limited_time)),
            (semconv.TCP_CONNECTIONS, lambda: each(lambda s: s.connections)),
            (semconv.TCP_RTT, lambda: each(lambda s: s.rtt)),
            (semconv.TCP_RTT_MAX, lambda: each(lambda s: s.rtt_max)),
            (semconv.TCP_RTT_VARIATION, lambda: each(lambda s: s.rtt_variation)),
            (semconv.TCP_RTT_MIN, lambda: each(lambda s: s.rtt_min)),
            (semconv.TCP_DELIVERY_RATE, lambda: each(lambda s: s.delivery_rate)),
            (semconv.TCP_BACKOFF, lambda: each(lambda s: s.backoff)),
            (semconv.TCP_UNACKED, lambda: each(lambda s: s.unacked)),
            (semconv.TCP_UNREAD, lambda: each(lambda s: s.unread)),
        )

    def _each(self, read: Callable[[TcpPeerStats], float | None]) -> Iterable[Observation]:
        for stats in self._latest:
            value = read(stats)
            if value is not None:
                yield Observation(value, _attributes(self._by, stats.peer, stats.use))

    def _pair(self, read: Callable[[TcpPeerStats], tuple[float | None, float | None]]) -> Iterable[Observation]:
        for stats in self._latest:
            for value, direction in zip(read(stats), (_RX, _TX), strict=True):
                if value is not None:
                    yield Observation(value, _attributes(self._by, stats.peer, stats.use, direction))

    def after_fork_in_child(self) -> None:
        super().after_fork_in_child()
        self._sockets, self._reader = OwnSockets(), TcpReader()
        self._before, self._totals, self._latest, self._read_at = {}, {}, (), None


def _use(peer: Peer) -> str:
    return semconv.USE_STORE if peer.is_store else semconv.USE_COLLECTIVES


@functools.lru_cache(maxsize=1024)
def _attributes(by: str, where: str | None, use: str, direction: str | None = None) -> dict[str, str]:
    attributes = {semconv.TCP_USE: use}
    if where is not None:
        attributes[semconv.PEER_ADDRESS if by == "address" else semconv.PEER_HOST] = where
    if direction is not None:
        attributes[semconv.DIRECTION] = direction
    return attributes
