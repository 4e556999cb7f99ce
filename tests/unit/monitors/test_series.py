"""What the monitors emit, by the SDK's own reader: names, kinds, units, attributes, and their health."""

from __future__ import annotations

import gc
import itertools
import json
import logging
import os
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_netmon import semconv
from otel_netmon.job.collective_window import CollectiveWindow, SeriesKey
from otel_netmon.monitors import (
    DistributedNetworkMonitor,
    Monitor,
    NetworkBandwidthMonitor,
    NetworkInterfaceMonitor,
    Point,
    RealNetworkMonitor,
    tcp_connect,
)

from .helpers import FIXTURES, Clock, FakeSource, counters, held_by_another_thread, nic, unpack, wait_for_child

GOLDEN = FIXTURES / "series.json"


class Exported:
    """A meter, and what a reader gets from it as plain data."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.meter = MeterProvider([self._reader], shutdown_on_exit=False).get_meter("test")

    def metrics(self) -> list[dict[str, Any]]:
        data = self._reader.get_metrics_data()
        if data is None:
            return []
        plain = json.loads(data.to_json())
        found = [m for r in plain["resource_metrics"] for s in r["scope_metrics"] for m in s["metrics"]]
        return sorted((m for m in found if m["data"]["data_points"]), key=lambda m: str(m["name"]))

    def points(self, metric: semconv.Metric) -> list[dict[str, Any]]:
        return [p for m in self.metrics() if m["name"] == metric.name for p in m["data"]["data_points"]]

    def values(self, metric: semconv.Metric) -> list[float]:
        return [point["value"] for point in self.points(metric)]


@pytest.fixture
def exported() -> Exported:
    return Exported()


def shape(metric: dict[str, Any]) -> dict[str, Any]:
    data = metric["data"]
    kind = "histogram" if "bucket_counts" in data["data_points"][0] else "gauge"
    if "is_monotonic" in data:
        kind = "counter" if data["is_monotonic"] else "up_down_counter"
    series = sorted(json.dumps(point["attributes"], sort_keys=True) for point in data["data_points"])
    return {
        "name": metric["name"],
        "kind": kind,
        "unit": metric["unit"],
        "description": metric["description"],
        "attributes": [json.loads(one) for one in series],
    }


def test_every_series_of_a_host(exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held to ``fixtures/series.json``. To renew that: delete it, run, and read the difference."""
    tree = unpack("host", tmp_path)
    clock = Clock()
    window = CollectiveWindow(60, clock=clock)
    window.add(SeriesKey("all_reduce", "gloo", "0"), clock.now, 1000, 0.1, 1.5)
    monkeypatch.setattr(tcp_connect, "resolve", lambda host, port: [])
    monkeypatch.setattr(tcp_connect, "connect", lambda addresses, timeout: 0.001)
    monitor = RealNetworkMonitor(
        interface=NetworkInterfaceMonitor(proc_root=tree.proc, sys_root=tree.sys, clock=clock),
        target_hosts=["trainer-1:29500", "[::1]:29500"],
        window=window,
    )
    monitor.register(exported.meter)
    for _ in range(2):
        assert all(part.run_once() for part in (*monitor.monitors, monitor))
        for name in ("eth0", "bond0"):
            tree.add(name, received=1_000_000, sent=2_000_000)
        clock.now += 2
    found = [shape(metric) for metric in exported.metrics()]
    if not GOLDEN.exists():
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
        pytest.fail(f"{GOLDEN} was missing and is written anew")
    assert found == json.loads(GOLDEN.read_text())
    by_name = {metric.name: metric for metric in semconv.METRICS}
    for metric in found:
        declared = by_name[metric["name"]]
        assert (metric["unit"], metric["kind"]) == (declared.unit, declared.kind.removeprefix("observable_"))
        assert all(set(attributes) == set(declared.attributes) for attributes in metric["attributes"])
    histogram = exported.points(semconv.LATENCY)[0]
    assert histogram["count"] == 2 * 2 * 3  # samples by the part and the whole, three attempts: none twice
    assert list(histogram["explicit_bounds"]) == list(semconv.SECONDS_BUCKETS)


class Stub(Monitor):
    """Fails as it is told to."""

    name = "stub"
    metrics = (semconv.HOST_TCP_RETRANSMITS,)

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock=clock)
        self.clock = clock
        self.failure: Exception | None = None
        self.given: tuple[Point, ...] = ()

    def sample(self) -> tuple[Point, ...]:
        self.clock.now += 0.25
        if self.failure is not None:
            raise self.failure
        return self.given


def test_health(exported: Exported, caplog: pytest.LogCaptureFixture) -> None:
    """Absent before the first sample; a failure costs neither an exception nor a line per sample."""
    clock = Clock()
    monitor = Stub(clock)
    monitor.register(exported.meter)
    assert exported.metrics() == []
    assert monitor.run_once()
    clock.now += 3
    assert exported.values(semconv.MONITOR_SUCCESS) == [1]
    assert exported.values(semconv.MONITOR_DURATION) == [0.25]
    assert exported.values(semconv.MONITOR_AGE) == [3]
    with caplog.at_level(logging.WARNING):
        for failure in (OSError(13, "denied"), OSError(13, "denied again"), OSError(2, "gone"), ValueError("bad")):
            monitor.failure = failure
            assert not monitor.run_once()
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == [
        "monitor stub: PermissionError: [Errno 13] denied",
        "monitor stub: FileNotFoundError: [Errno 2] gone",
        "monitor stub: ValueError: bad",
    ]
    assert exported.values(semconv.MONITOR_SUCCESS) == [0]
    assert exported.values(semconv.MONITOR_AGE) == [4]


def test_every_monitor_has_its_own_health_on_one_meter(exported: Exported) -> None:
    """The SDK drops the callbacks of an instrument that is created twice; this is what that would cost."""
    monitor = RealNetworkMonitor(target_hosts=())
    monitor.register(exported.meter)
    monitor.register(exported.meter)
    monitor.get_current_metrics()
    names = [point["attributes"][semconv.MONITOR_NAME] for point in exported.points(semconv.MONITOR_SUCCESS)]
    assert sorted(names) == ["bandwidth", "distributed", "interface", "latency"]


def test_of_two_monitors_that_tell_the_same_the_first_is_heard(exported: Exported) -> None:
    """Two of one NIC, on one meter: the SDK would add the two up. What only one of them tells is told."""
    first = NetworkInterfaceMonitor(source=FakeSource([nic("eth0", counters=counters(1000, 5))]))
    second = NetworkInterfaceMonitor(
        source=FakeSource([nic("eth0", counters=counters(1200, 7)), nic("eth1", counters=counters(30, 3))])
    )
    for monitor in (first, second):
        monitor.register(exported.meter)
        monitor.run_once()

    def received() -> dict[str, float]:
        points = [p for p in exported.points(semconv.NIC_IO) if p["attributes"][semconv.DIRECTION] == "receive"]
        return {point["attributes"][semconv.INTERFACE]: point["value"] for point in points}

    assert received() == {"eth0": 1000, "eth1": 30}
    assert exported.values(semconv.MONITOR_SUCCESS) == [1]
    first.unregister()
    assert received() == {"eth0": 1200, "eth1": 30}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_does_not_tell_its_parents_health() -> None:
    monitor = Stub(Clock())
    monitor.given = (Point(semconv.HOST_TCP_RETRANSMITS, 7),)
    assert monitor.run_once()
    child = os.fork()
    if child == 0:
        os._exit(0 if monitor.health() == monitor.points() == () else 3)
    assert wait_for_child(child) == 0
    assert len(monitor.health()) == 3 and monitor.points() == monitor.given


def test_a_kind_of_failure_is_said_again_when_others_came_in_between(
    exported: Exported, caplog: pytest.LogCaptureFixture
) -> None:
    """What is remembered as said is bounded, and never so full that nothing is said any more."""
    monitor = Stub(Clock())
    for number in (*range(200, 300), 200):
        monitor.failure = OSError(number, "gone wrong")
        monitor.run_once()
    assert len(caplog.records) == 101 and len(monitor._logged) <= 32


def test_after_unregister_it_is_silent_and_a_new_one_is_heard(exported: Exported) -> None:
    source = FakeSource()
    for name in ("eth0", "eth1"):
        source.nics = [nic(name)]
        monitor = NetworkInterfaceMonitor(source=source)
        monitor.register(exported.meter)
        monitor.sample()
        seen = {point["attributes"][semconv.INTERFACE] for point in exported.points(semconv.NIC_IO)}
        assert seen == {name}
        monitor.unregister()
        assert exported.points(semconv.NIC_IO) == []


def test_points_that_make_no_sense_cost_the_others_nothing(
    exported: Exported, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = NetworkInterfaceMonitor(source=FakeSource([nic(speed="fast", counters=None)]))
    good = NetworkBandwidthMonitor(interface_monitor=NetworkInterfaceMonitor(source=FakeSource()))
    for one in (monitor, good):
        one.register(exported.meter)
        one.run_once()
    monitor.run_once()
    assert exported.points(semconv.NIC_IO) == []
    assert sorted(exported.values(semconv.MONITOR_SUCCESS)) == [0, 1]
    assert sum("TypeError" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "sample() gave no points; CHANGELOG.md says how to move from series() to points"),
        ((Point(semconv.NIC_IO, 1),), "system.network.io is missing in Stub.metrics"),
    ],
)
def test_what_is_not_a_point_of_the_monitor_is_a_failure_that_says_why(
    given: tuple[Point, ...], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = Stub(Clock())
    monitor.given = given
    assert not monitor.run_once()
    assert monitor.points() == ()
    assert message in caplog.text


def test_of_two_threads_one_samples_and_the_other_does_not_wait() -> None:
    """Differences of readings that overtook one another would be wrong."""
    inside, release, count = threading.Event(), threading.Event(), itertools.count(1)

    class Slow(Stub):
        def sample(self) -> tuple[Point, ...]:
            inside.set()
            assert release.wait(30)
            return (Point(semconv.HOST_TCP_RETRANSMITS, next(count)),)

    monitor = Slow(Clock())
    thread = threading.Thread(target=monitor.run_once)
    thread.start()
    assert inside.wait(30)
    assert monitor.run_once() and monitor.points() == () and monitor.health() == ()
    release.set()
    thread.join(30)
    assert [point.value for point in monitor.points()] == [1]
    assert monitor.run_once() and [point.value for point in monitor.points()] == [2]


def test_points_are_those_of_the_last_sample_that_worked_and_shared_with_the_exporter(exported: Exported) -> None:
    source = FakeSource([nic(counters=counters(1000, 5))])
    monitor = NetworkInterfaceMonitor(source=source)
    monitor.register(exported.meter)
    assert monitor.points() == ()
    assert monitor.run_once()
    received = {semconv.INTERFACE: "eth0", semconv.DIRECTION: "receive"}
    assert Point(semconv.NIC_IO, 1000, received) in monitor.points()
    assert {point.metric.name for point in monitor.points()} <= {metric.name for metric in monitor.metrics}
    assert {point["value"] for point in exported.points(semconv.NIC_IO)} == {1000, 5}
    source.nics = [nic(counters=None)]
    assert not monitor.run_once()
    assert Point(semconv.NIC_IO, 1000, received) in monitor.points()


def test_the_nics_are_read_once_a_round() -> None:
    """Whichever of the two comes first; and again where the interface monitor has not read anew since."""
    reads: list[None] = []
    clock = Clock()
    source = FakeSource(on_read=lambda: reads.append(None))
    interface = NetworkInterfaceMonitor(source=source, clock=clock)
    bandwidth = NetworkBandwidthMonitor(interface_monitor=interface)
    for number in range(1, 5):
        clock.now += 10
        source.nics = [nic(counters=counters(number * 10_000, 0))]
        assert interface.run_once() and bandwidth.run_once()
        assert len(reads) == number
    assert [stats.receive_rate for stats in bandwidth.bandwidth_history] == [1000] * 3
    assert bandwidth.run_once()
    assert len(reads) == 5


def test_a_failing_part_is_none_in_the_whole_and_zero_in_its_health(exported: Exported) -> None:
    source = FakeSource()

    def fail() -> None:
        raise PermissionError(13, "denied")

    source.on_read = fail
    monitor = RealNetworkMonitor(interface=NetworkInterfaceMonitor(source=source), target_hosts=())
    monitor.register(exported.meter)
    metrics = monitor.get_current_metrics()
    assert (metrics.interfaces, metrics.bandwidth) == (None, None)
    assert metrics.distributed is not None
    assert "interfaces" not in metrics.to_dict()
    health = {
        point["attributes"][semconv.MONITOR_NAME]: point["value"]
        for point in exported.points(semconv.MONITOR_SUCCESS)
    }
    assert health == {"interface": 0, "distributed": 1, "latency": 1}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 and later
def test_a_forked_child_reports_nothing_and_can_measure(exported: Exported) -> None:
    """Its parent reports this host; and a lock that a parent's thread held must not stay locked."""
    monitor = DistributedNetworkMonitor(window=CollectiveWindow())
    monitor.register(exported.meter)
    monitor.run_once()
    assert exported.values(semconv.MONITOR_SUCCESS) == [1]
    with held_by_another_thread(monitor._lock):
        child = os.fork()
        if child == 0:  # no assertion may leave this branch: pytest would run twice
            try:
                silent = exported.points(semconv.MONITOR_SUCCESS) == []
                monitor.measure_distributed_metrics()
                os._exit(0 if silent and len(monitor.performance_history) == 2 else 3)
            except BaseException:
                os._exit(4)
        code = wait_for_child(child)
    assert code == 0
    assert exported.values(semconv.MONITOR_SUCCESS) == [1]


def test_a_monitor_that_nobody_holds_is_freed(exported: Exported) -> None:
    """Its meter lives on, with the callbacks that once read it."""
    monitor = RealNetworkMonitor(target_hosts=())
    watched = [weakref.ref(one) for one in (monitor, *monitor.monitors)]
    monitor.register(exported.meter)
    monitor.run_once()
    monitor.unregister()
    del monitor
    gc.collect()
    assert [ref() for ref in watched] == [None] * 5
