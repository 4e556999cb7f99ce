"""Round-trip times to the job's hosts: who is probed, by what, and who never is."""

from __future__ import annotations

import errno
import logging
import socket
import sys
from collections.abc import Collection
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_netmon import config, semconv
from otel_netmon.job.peers import Connection, Host, Peer
from otel_netmon.monitors import PeerLatencyMonitor, Point, icmp
from otel_netmon.monitors.registry import BUILT_IN, choose
from otel_netmon.monitors.tcp_connect import Attempts

HOSTS = [Host(f"trainer-{number}", f"127.0.0.{number}") for number in range(2, 8)]


class Job:
    """A job of six other hosts, all of them on loopback."""

    def __init__(self, store: tuple[str, int] | None = None) -> None:
        self.store = store
        self.asked: list[int] = []

    def exchange(self, own: Collection[Connection]) -> dict[Connection, Peer]:
        raise AssertionError("nobody asked for connections")

    def some_hosts(self, most: int) -> list[Host]:
        self.asked.append(most)
        return HOSTS[:most]

    def store_endpoint(self) -> tuple[str, int] | None:
        return self.store


def test_nobody_is_probed_unless_the_user_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, expected in (("", False), ("false", False), ("true", True)):
        monkeypatch.setenv("OTEL_NETMON_LATENCY_PEERS", value)
        config.current.cache_clear()
        assert ("latency_peers" in [one.name for one in choose(BUILT_IN, ())[0]]) is expected
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")  # once per host is enough
    assert "latency_peers" not in [one.name for one in choose(BUILT_IN, ())[0]]
    config.current.cache_clear()


def test_no_more_hosts_than_allowed_and_every_time_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[list[str]] = []

    def ping(addresses: Collection[str], attempts: int, _timeout: float) -> dict[str, Attempts]:
        sent.append(list(addresses))
        return {one: Attempts([0.001] * (attempts - 1), ["timeout"]) for one in addresses}

    monkeypatch.setattr(icmp, "allowed", lambda: True)
    monkeypatch.setattr(icmp, "ping", ping)
    reader = InMemoryMetricReader()
    monitor = PeerLatencyMonitor(directory=Job(), most=4, attempts=5)
    monitor.register(MeterProvider([reader], shutdown_on_exit=False).get_meter("test"))
    assert monitor.run_once()
    assert sent == [[host.address for host in HOSTS[:4]]]
    about = {semconv.LATENCY_METHOD: "icmp", semconv.PEER_ADDRESS: "127.0.0.2"}
    assert Point(semconv.PEER_LATENCY_LOSS, 0.2, about) in monitor.points()
    data = reader.get_metrics_data()
    assert data is not None
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    points: dict[str, Any] = {metric.name: list(metric.data.data_points) for metric in metrics}
    (histogram,) = points[semconv.PEER_LATENCY.name]
    assert histogram.count == 16 and dict(histogram.attributes or {}) == {semconv.LATENCY_METHOD: "icmp"}
    assert len(points[semconv.PEER_LATENCY_LOSS.name]) == 4


class Shortening:
    """Echoes whose times a test gives, by address."""

    def __init__(self) -> None:
        self.times: dict[str, float] = {}

    def ping(self, addresses: Collection[str], _attempts: int, _timeout: float) -> dict[str, Attempts]:
        return {one: Attempts([self.times[one], 0.5], []) for one in addresses if one in self.times}


def test_the_shortest_time_is_kept_until_it_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    echoes, reader = Shortening(), InMemoryMetricReader()
    monkeypatch.setattr(icmp, "allowed", lambda: True)
    monkeypatch.setattr(icmp, "ping", echoes.ping)
    monitor = PeerLatencyMonitor(directory=Job(), most=6, attempts=2)
    monitor.register(MeterProvider([reader], shutdown_on_exit=False).get_meter("test"))

    def exported() -> dict[str, float]:
        data: Any = reader.get_metrics_data()
        metrics = data.resource_metrics[0].scope_metrics[0].metrics
        points = {metric.name: metric.data.data_points for metric in metrics}
        found = points.get(semconv.PEER_LATENCY_MIN.name, ())
        return {str(point.attributes[semconv.PEER_ADDRESS]): point.value for point in found}

    for times in ({"127.0.0.2": 0.002}, {"127.0.0.2": 0.001, "127.0.0.3": 0.004}, {"127.0.0.2": 0.009}):
        echoes.times = times
        assert monitor.run_once()
    assert exported() == {"127.0.0.2": 0.001, "127.0.0.3": 0.004}
    assert exported() == {"127.0.0.2": 0.001, "127.0.0.3": 0.004}  # nothing was measured in between
    echoes.times = {"127.0.0.2": 0.007}
    assert monitor.run_once()
    assert exported() == {"127.0.0.2": 0.007}  # a new delay is not hidden by what was before
    assert {metric for metric, _, _ in monitor.points()} >= {semconv.PEER_LATENCY_MEAN, semconv.PEER_LATENCY_MIN}


def test_without_icmp_only_the_store_is_connected_to(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(icmp, "allowed", lambda: False)
    with socket.create_server(("127.0.0.1", 0)) as server:
        job = Job(("127.0.0.1", server.getsockname()[1]))
        monitor = PeerLatencyMonitor(directory=job, attempts=2, timeout=2)
        with caplog.at_level(logging.WARNING):
            for _ in range(2):
                assert monitor.run_once()
        losses = [value for metric, value, _ in monitor.points() if metric is semconv.PEER_LATENCY_LOSS]
        assert losses == [0]
        server.settimeout(0)
        for _ in range(2 * 2):
            server.accept()[0].close()
        with pytest.raises(BlockingIOError):
            server.accept()
        assert job.asked == []
    assert len(caplog.records) == 1 and "net.ipv4.ping_group_range" in caplog.text
    nothing = PeerLatencyMonitor(directory=Job())
    assert nothing.run_once() and nothing.points() == ()


def test_without_a_job_nothing_is_sent() -> None:
    monitor = PeerLatencyMonitor()
    assert monitor.run_once() and monitor.points() == ()


@pytest.mark.skipif(sys.platform != "linux", reason="datagram ICMP sockets are Linux'")
def test_echoes_are_only_for_those_who_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Either the kernel lets us, and loopback answers; or it does not, and that is one word per address."""
    found = icmp.ping(["127.0.0.1", "nonsense"], 3, 2.0)
    assert found["nonsense"].errors == ["name_not_resolved"]
    if icmp.allowed():
        assert len(found["127.0.0.1"].times) == 3 and all(0 < one < 1 for one in found["127.0.0.1"].times)
    else:
        assert found["127.0.0.1"].times == [] and found["127.0.0.1"].errors[0] in (
            errno.errorcode[errno.EACCES], errno.errorcode[errno.EPERM],
        )  # fmt: skip
