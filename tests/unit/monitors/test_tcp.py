"""The TCP monitor on real loopback connections, with a directory in memory."""

from __future__ import annotations

import math
import os
import socket
import sys
import time
from collections.abc import Collection, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_netmon import config, semconv
from otel_netmon.job.peers import Connection, Endpoint, Host, HostTrafficBuffer, Peer, PeerTrafficBuffer
from otel_netmon.monitors import TcpMonitor, tcp
from otel_netmon.monitors.own_nics import OwnNics
from otel_netmon.monitors.own_sockets import OwnSockets
from otel_netmon.monitors.tcp_info import SocketReading, TcpInfo
from otel_netmon.monitors.tcp_traffic import ConnectionDelta, delta, nic_traffic
from otel_netmon.records import HostTraffic

from .helpers import Clock, together
from .test_tcp_sockets import connection, joined

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is Linux'")


SYN = 1
"""The kernel counts opening a connection as a byte acknowledged."""


class InMemoryDirectory:
    """A directory that knows what a test tells it."""

    def __init__(self) -> None:
        self.peers: dict[Connection, Peer] = {}
        self.asked: list[Connection] = []

    def exchange(self, own: Collection[Connection]) -> dict[Connection, Peer]:
        self.asked += own
        return {one: peer for one, peer in self.peers.items() if one in own}

    def some_hosts(self, most: int) -> list[Host]:
        return []

    def store_endpoint(self) -> tuple[str, int] | None:
        return None


class CountingSockets(OwnSockets):
    def __init__(self) -> None:
        super().__init__()
        self.read_of: set[Connection] = set()

    def read(self, connections: Any) -> dict[Connection, SocketReading]:
        self.read_of |= set(connections)
        return super().read(connections)


class Bench:
    def __init__(self, sockets: CountingSockets | None = None) -> None:
        self.directory, self.readings, self.clock = InMemoryDirectory(), PeerTrafficBuffer(), Clock()
        self.sockets = sockets or CountingSockets()
        self.monitor = TcpMonitor(
            directory=self.directory, readings=self.readings, sockets=self.sockets, clock=self.clock
        )
        self._metrics = InMemoryMetricReader()
        self.monitor.register(MeterProvider([self._metrics], shutdown_on_exit=False).get_meter("test"))

    def sample(self) -> None:
        self.clock.now += 2
        assert self.monitor.run_once()

    def series(self) -> dict[str, dict[tuple[Any, ...], float]]:
        data = self._metrics.get_metrics_data()
        found: dict[str, dict[tuple[Any, ...], float]] = {}
        if data is None:
            return found
        for metric in data.resource_metrics[0].scope_metrics[0].metrics:
            name = metric.name.removeprefix("otel_netmon.tcp.")
            for point in metric.data.data_points:
                found.setdefault(name, {})[tuple((point.attributes or {}).values())] = point.value  # type: ignore[union-attr]  # a point of the kind that is asked for
        return found


@pytest.fixture
def bench() -> Iterator[Bench]:
    config.current.cache_clear()
    yield Bench()
    config.current.cache_clear()


def drained(far: socket.socket, size: int) -> None:
    while size:
        size -= len(far.recv(min(size, 1 << 16)))


def acknowledged(near: socket.socket) -> None:
    """Until the kernel has the last acknowledgement."""
    for _ in range(500):
        if int.from_bytes(near.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)[24:28], sys.byteorder) == 0:
            return
        time.sleep(0.01)
    raise AssertionError("never acknowledged")


def test_exact_bytes_by_peer_and_only_of_the_training(bench: Bench) -> None:
    with joined() as (near, far), joined() as (foreign, _), joined() as (store, _):
        bench.directory.peers = {
            connection(near): Peer(3, "trainer-2"), connection(far): Peer(0, "trainer-1"),
            connection(store): Peer(None, None, True),
        }  # fmt: skip
        bench.sample()
        assert bench.series()["io"][("collectives", "127.0.0.1", "transmit")] == SYN
        near.sendall(bytes(100_000))
        drained(far, 100_000)
        foreign.sendall(bytes(5000))
        store.sendall(bytes(70))
        for one in (near, store):
            acknowledged(one)
        bench.sample()
        found = bench.series()
        assert found["io"][("collectives", "127.0.0.1", "transmit")] == 100_000 + SYN
        assert found["io"][("collectives", "127.0.0.1", "receive")] == 100_000
        assert found["io"][("store", "127.0.0.1", "transmit")] == 70 + SYN
        assert found["connections"] == {("collectives", "127.0.0.1"): 2, ("store", "127.0.0.1"): 1}
        assert connection(foreign) in bench.directory.asked
        assert bench.sockets.read_of == set(bench.directory.peers)
        (reading,) = [one for one in bench.readings.until(time.monotonic_ns()) if one.peer == 3]
        assert (reading.bytes_sent, reading.bytes_received, reading.interval) == (100_000, 0, 2.0)
        assert reading.host == "trainer-2" and reading.rtt and reading.min_rtt and reading.connections == 1
        assert reading.shortest_rtt == reading.rtt


def test_an_idle_connection_has_no_round_trip_time(bench: Bench) -> None:
    with joined() as (near, far):
        bench.directory.peers = {connection(near): Peer(1, "h")}
        near.sendall(bytes(1000))
        drained(far, 1000)
        acknowledged(near)
        bench.sample()
        assert bench.series()["rtt"] and bench.series()["rtt.max"] and bench.series()["rtt.min"]
        bench.sample()
        found = bench.series()
        assert not {"rtt", "rtt.max", "rtt.min", "rtt.variation", "delivery_rate"} & set(found)
        assert found["io"][("collectives", "127.0.0.1", "transmit")] == 1000 + SYN
        assert bench.readings.until(time.monotonic_ns()) == []  # nothing moved, nothing is told


def test_it_is_sampled_every_two_seconds_as_long_as_that_is_cheap(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "FEW", 1)
    assert bench.monitor.longest_interval == 2.0
    with joined() as (near, far):
        bench.directory.peers = {connection(near): Peer(1, "h")}
        bench.sample()
        assert bench.monitor.longest_interval == 2.0
        bench.directory.peers[connection(far)] = Peer(1, "h")
        bench.sample()
        assert bench.monitor.longest_interval == math.inf


def test_data_that_nobody_reads_is_told_though_nothing_moves(bench: Bench) -> None:
    with joined() as (near, far):
        bench.directory.peers = {connection(far): Peer(1, "h")}
        near.sendall(bytes(2000))
        acknowledged(near)
        bench.sample()
        bench.sample()
        assert bench.series()["unread"] == {("collectives", "127.0.0.1"): 2000}
        (reading,) = bench.readings.until(time.monotonic_ns())
        assert (reading.unread, reading.bytes_received) == (2000, 0)


def test_totals_keep_what_closed_and_never_fall(bench: Bench) -> None:
    key = ("collectives", "127.0.0.1", "transmit")
    with joined() as (near, far):
        bench.directory.peers[connection(near)] = Peer(1, "h")
        near.sendall(bytes(500))
        drained(far, 500)
        acknowledged(near)
        bench.sample()
    bench.sample()
    assert bench.series()["io"][key] == 500 + SYN
    assert bench.series()["connections"] == {("collectives", "127.0.0.1"): 0}
    with joined() as (near, far):
        bench.directory.peers[connection(near)] = Peer(1, "h")
        near.sendall(bytes(20))
        drained(far, 20)
        acknowledged(near)
        bench.sample()
    assert bench.series()["io"][key] == 520 + 2 * SYN


class Moody(CountingSockets):
    """Reads, or cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.silent = False

    def read(self, connections: Any) -> dict[Connection, SocketReading]:
        return {} if self.silent else super().read(connections)


def test_a_connection_that_could_not_be_read_for_once_is_not_counted_anew() -> None:
    """Nor one that the directory did not know for once."""
    sockets = Moody()
    bench = Bench(sockets)
    key = ("collectives", "127.0.0.1", "transmit")
    with joined() as (near, far):
        peers = bench.directory.peers = {connection(near): Peer(1, "h")}

        def sent(size: int) -> float:
            near.sendall(bytes(size))
            drained(far, size)
            acknowledged(near)
            bench.sample()
            return bench.series()["io"][key]

        assert sent(1000) == 1000 + SYN
        sockets.silent = True
        assert sent(100) == 1000 + SYN
        sockets.silent = False
        assert sent(10) == 1110 + SYN
        bench.directory.peers = {}
        bench.sample()
        bench.directory.peers = peers
        assert sent(1) == 1111 + SYN
        again = os.dup(near.fileno())  # the same socket by a second number
        assert sent(1) == 1112 + SYN
        os.close(again)
        assert sent(1) == 1113 + SYN
    bench.sample()
    assert bench.monitor._before == {}


def test_a_reused_address_begins_anew() -> None:
    """The same two ends, another socket: told apart by its inode, not compared with the old one."""
    old = TcpInfo(*(0,) * 5)._replace(bytes_acked=9000, bytes_received=0)
    new = old._replace(bytes_acked=10)
    assert delta(SocketReading(new, 0, 0, 7), old).counts["bytes_sent"] == 0  # never negative
    assert delta(SocketReading(new, 0, 0, 7), None).counts["bytes_sent"] == 10
    assert "bytes_sent" not in delta(SocketReading(old._replace(bytes_acked=None), 0, 0, 7), None).counts


@pytest.mark.parametrize(
    ("by", "expected", "name"),
    [
        ("address", {"127.0.0.1"}, {semconv.PEER_ADDRESS}),
        ("host", {"trainer-2", "trainer-3"}, {semconv.PEER_HOST}),
        ("none", {None}, set()),
    ],
)
def test_what_tells_peers_apart(
    by: str, expected: set[str | None], name: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_NETMON_PEER_ATTRIBUTE", by)
    config.current.cache_clear()
    bench = Bench()
    with joined() as (near, far):
        bench.directory.peers = {connection(near): Peer(1, "trainer-2"), connection(far): Peer(2, "trainer-3")}
        bench.sample()
        points = bench.monitor.points()
        infos = [dict(about) for metric, value, about in points if metric is semconv.PEER_INFO and value == 1]
        points = tuple(one for one in points if one[0] is not semconv.PEER_INFO)
        names = (semconv.PEER_ADDRESS, semconv.PEER_HOST)
        assert {next((a[n] for n in names if n in a), None) for _, _, a in points} == expected
        assert {n for _, _, a in points for n in a if n in names} == name
        told = [
            {
                semconv.PEER_RANK: rank,
                semconv.PEER_HOST: host,
                **dict.fromkeys(name & {semconv.PEER_ADDRESS}, "127.0.0.1"),
            }
            for rank, host in ((1, "trainer-2"), (2, "trainer-3"))
        ]
        assert infos == (told if name else [])
    config.current.cache_clear()


def test_of_many_peers_those_are_named_that_most_was_moved_to(bench: Bench) -> None:
    """And they stay: another choice at each reading would be another series each time."""
    ends = [Connection(Endpoint("10.0.0.1", 5000 + n), Endpoint(f"10.0.1.{n}", 6000)) for n in range(100)]
    known = {one: Peer(n, f"h{n}") for n, one in enumerate(ends)}

    def named(most: list[int], among: dict[Connection, Peer]) -> set[int]:
        nothing = SocketReading(TcpInfo(*(0,) * 5), 0, 0, 7)
        moved = {ends[n]: ConnectionDelta(nothing, {"bytes_sent": 9, "bytes_received": n}) for n in most}
        points = bench.monitor._infos(among, moved)
        assert len(points) <= tcp.MAX_NAMED
        return {int(str(point.attributes[semconv.PEER_RANK])) for point in points}

    first = named([98, 99], known)
    assert first == {*range(tcp.MAX_NAMED - 2), 98, 99}
    assert named([97], known) == first
    left = {one: peer for one, peer in known.items() if peer.rank != 98}
    assert named([97], left) == first - {98} | {97}  # one went, and one more has room


def test_every_series_is_declared(bench: Bench) -> None:
    with joined() as (near, far):
        bench.directory.peers = {connection(near): Peer(1, "h"), connection(far): Peer(0, "h")}
        near.sendall(bytes(1000))
        acknowledged(near)
        bench.sample()
        seen = set()
        for metric, _, attributes in bench.monitor.points():
            seen.add(metric.name)
            assert set(attributes) == set(metric.attributes)
        declared = {m.name for m in semconv.METRICS if m.name.startswith("otel_netmon.tcp.")}
        assert seen == declared | {semconv.PEER_INFO.name}


def test_the_store_and_who_is_not_known_are_nobody(bench: Bench) -> None:
    with joined() as (near, far):
        bench.directory.peers = {connection(near): Peer(None, None, True), connection(far): Peer(0, "h", True)}
        bench.sample()
        assert semconv.PEER_INFO not in {metric for metric, _, _ in bench.monitor.points()}


def test_nics_are_read_together_with_the_connections_and_only_what_leaves_the_host_counts() -> None:
    def moved(local: str, remote: str, sent: int, received: int) -> tuple[Connection, ConnectionDelta]:
        one = Connection(Endpoint(local, 1), Endpoint(remote, 2))
        return one, ConnectionDelta(
            SocketReading(TcpInfo(*(0,) * 5), 0, 0, 7), {"bytes_sent": sent, "bytes_received": received}
        )

    names = {"10.0.0.1": "eth0", "10.0.1.1": "eth1"}
    deltas = dict(
        [
            moved("10.0.0.1", "10.0.0.2", 100, 200),
            moved("10.0.0.1", "10.0.0.3", 10, 20),
            moved("10.0.0.1", "10.0.1.1", 5000, 5000),  # this host's own other address: it passes no NIC
            moved("127.0.0.1", "127.0.0.1", 7000, 7000),
            moved("10.0.1.1", "10.0.1.2", 0, 0),
        ]
    )
    before, now = {"eth0": (1000, 2000), "eth1": (0, 0)}, {"eth0": (1500, 2900), "eth1": (9, 9)}
    (one,) = nic_traffic(deltas, names, before, now, 2.0)
    assert one._replace(at=0) == HostTraffic("eth0", 2.0, 900, 500, 110, 220)
    assert nic_traffic(deltas, names, {}, now, 2.0) == []  # not read before
    assert nic_traffic(deltas, names, now, before, 2.0) == []  # it was reset


def test_a_nic_that_cannot_be_read_costs_the_connections_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(OwnNics):
        def read(self, names: Collection[str]) -> Any:
            raise PermissionError(13, "no")

    nic_readings = HostTrafficBuffer()
    monitor = TcpMonitor(
        directory=bench.directory, readings=bench.readings, nic_readings=nic_readings, nics=Broken()
    )
    with joined() as (near, _):
        bench.directory.peers = {connection(near): Peer(1, "h")}
        for _ in range(3):
            assert monitor.run_once()
        assert monitor.points() and nic_readings.until(1 << 62) == []
    assert caplog.text.count("PermissionError") == 1


def test_readers_do_not_wait_for_a_sample_nor_see_half_of_one(bench: Bench) -> None:
    with joined() as (near, far):
        bench.directory.peers = {connection(near): Peer(1, "h"), connection(far): Peer(0, "h")}

        def read() -> None:
            for _ in range(50):
                points = bench.monitor.points()
                assert not points or [v for m, v, _ in points if m is semconv.TCP_CONNECTIONS] == [2]
                bench.series()

        def sample() -> None:
            for _ in range(20):
                bench.sample()

        together(sample, *[read] * 20)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_no_directory_and_no_series() -> None:
    from otel_netmon.job import peers

    peers.directory = InMemoryDirectory()
    try:
        child = os.fork()
        if child == 0:
            os._exit(0 if peers.directory is None else 3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        peers.directory = None


def test_without_a_directory_nothing_is_looked_at() -> None:
    class Never(OwnSockets):
        def connections(self) -> Any:
            raise AssertionError

    monitor = TcpMonitor(sockets=Never())
    assert monitor.run_once()
    assert monitor.points() == ()
