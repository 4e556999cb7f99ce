"""Many threads at once: nothing raises, nothing is lost or torn, nothing waits for I/O, nothing deadlocks."""

from __future__ import annotations

import atexit
import dataclasses
import functools
import itertools
import random
import shutil
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_netmon.job.collective_window import CollectiveWindow, SeriesKey
from otel_netmon.job.peers import Connection, Peer, PeerTrafficBuffer
from otel_netmon.job.peers import Host as PeerHost
from otel_netmon.monitors import (
    DistributedNetworkMonitor,
    KernelNetworkMonitor,
    Monitor,
    NetworkBandwidthMonitor,
    NetworkInterfaceMonitor,
    NetworkLatencyMonitor,
    PeerLatencyMonitor,
    PressureMonitor,
    ProcessPressureMonitor,
    RdmaMonitor,
    RealNetworkMonitor,
    TcpMonitor,
    files,
    icmp,
    nics,
    tcp_connect,
)
from otel_netmon.monitors.own_sockets import OwnSockets

from .helpers import FakeSource, counters, nic, restless, together, unpack

ADDRESS: tcp_connect.Address = (0, ("trainer", 1))  # type: ignore[assignment]  # nobody connects to it
TARGETS = ("trainer-1:1", "trainer-2:1")


class Peers:
    """A job of two hosts to which every connection of this process belongs."""

    def exchange(self, own: Collection[Connection]) -> dict[Connection, Peer]:
        return {one: Peer(1, "trainer-2") for one in own}

    def some_hosts(self, most: int) -> list[PeerHost]:
        return [PeerHost("trainer-2", "127.0.0.1")]

    def store_endpoint(self) -> tuple[str, int]:
        return "trainer-1", 29500


@functools.cache
def rdma_tree() -> Path:
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    return unpack("rdma_mlx5_roce", folder).sys


class Host:
    """The five monitors over one host in memory, and the others over this one, registered with a reader."""

    def __init__(self, source: nics.NicSource | None = None) -> None:
        self.window = CollectiveWindow()
        self.real = RealNetworkMonitor(
            interface=NetworkInterfaceMonitor(source=source or FakeSource(), rate_window=1e-9),
            latency=NetworkLatencyMonitor(TARGETS, timeout=20),
            window=self.window,
        )
        self.interface, self.bandwidth = self.real.interface, self.real.bandwidth
        self.latency, self.distributed = self.real.latency, self.real.distributed
        self.peers = PeerLatencyMonitor(directory=Peers())
        self.kernel, self.rdma = KernelNetworkMonitor(), RdmaMonitor(sys_root=rdma_tree())
        self.tcp = TcpMonitor(directory=Peers(), readings=PeerTrafficBuffer())
        self.others = (self.peers, self.kernel, self.rdma, self.tcp, PressureMonitor(), ProcessPressureMonitor())
        self.monitors: tuple[Monitor, ...] = (*self.real.monitors, self.real, *self.others)
        self._reader = InMemoryMetricReader()
        meter = MeterProvider([self._reader], shutdown_on_exit=False).get_meter("test")
        for monitor in (self.real, *self.others):
            monitor.register(meter)

    def collect(self) -> object:
        return self._reader.get_metrics_data()

    def add_collectives(self) -> None:
        self.window.add(SeriesKey("all_reduce", "gloo", "0"), time.monotonic(), 1000, 0.1, 1.0)

    def methods(self) -> list[Callable[[], object]]:
        """Everything public, the writers first."""
        return [
            self.interface.get_interface_stats,
            self.bandwidth.measure_bandwidth,
            self.latency.measure_latency,
            self.distributed.measure_distributed_metrics,
            self.real.get_current_metrics,
            *(monitor.run_once for monitor in self.monitors),
            self.add_collectives,
            *self.readers(),
        ]

    def readers(self) -> list[Callable[[], object]]:
        """Everything that only reads, each history gone through as a user would."""
        return [
            lambda: [stats.to_dict() for stats in self.interface.latest.values()],
            lambda: [stats.to_dict() for stats in self.bandwidth.bandwidth_history],
            lambda: [stats.mean for history in self.latency.latency_history.values() for stats in history],
            lambda: sum(self.distributed.allreduce_times),
            lambda: [metrics.time for metrics in self.distributed.performance_history],
            lambda: [stats.receive_rate for stats in self.real.bandwidth_history],
            lambda: [len(latency) for latency in self.real.latency_history],
            lambda: [stats.to_dict() for stats in self.rdma.latest.values()],
            lambda: [sum(point.value for point in monitor.points()) for monitor in self.monitors],
            self.collect,
        ]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(tcp_connect, "resolve", lambda host, port: [ADDRESS])
    monkeypatch.setattr(tcp_connect, "connect", lambda addresses, timeout: 0.001)
    return Host()


def orders(methods: list[Callable[[], object]], threads: int) -> list[list[Callable[[], object]]]:
    """The methods in another order for each thread."""
    draw = random.Random(3)
    return [draw.sample(methods, len(methods)) for _ in range(threads)]


def each(methods: list[Callable[[], object]], times: int) -> None:
    for method in itertools.islice(itertools.cycle(methods), times * len(methods)):
        method()


def test_twelve_threads_call_every_method_of_every_monitor_at_once(host: Host) -> None:
    with restless():
        together(*(functools.partial(each, order, 3) for order in orders(host.methods(), 12)))
    assert len(host.real.latency_history) == min(100, 12 * 3 * 2)  # called, and sampled


def test_deadlock_prevention_with_locks_taken_in_different_orders(host: Host) -> None:
    """No lock of a monitor is ever taken while another one's is held: so there is no order to get wrong."""
    held = threading.local()
    nested: set[tuple[str, str]] = set()

    class Traced:
        """A lock that notes which ones its thread holds already."""

        def __init__(self, name: str, lock: Any) -> None:
            self._name, self._lock = name, lock

        def __enter__(self) -> None:
            names = held.__dict__.setdefault("names", [])
            nested.update((before, self._name) for before in names if before != self._name)
            self._lock.acquire()
            names.append(self._name)

        def __exit__(self, *_: object) -> None:
            held.names.pop()
            self._lock.release()

    for monitor in host.monitors:
        monitor._lock = Traced(monitor.name, monitor._lock)
    together(*(functools.partial(each, order, 3) for order in orders(host.methods(), 12)))
    assert nested == set()


class Idle(Monitor):
    """What every monitor has, and no more."""

    name = "idle"

    def sample(self) -> tuple[()]:
        return ()


@pytest.fixture
def state_checks(host: Host) -> Iterator[list[str]]:
    """Each access to a monitor's state, once it is made, by a thread that neither holds its lock nor is the one
    that samples it: those take turns."""
    constant = {"_targets"}
    violations: list[str] = []

    def mutable(monitor: Monitor) -> set[str]:
        before = dict(vars(monitor))
        host.add_collectives()
        each(host.methods(), 1)
        after = vars(monitor)
        containers = {name for name, value in after.items() if isinstance(value, (dict, deque, set, list))}
        return (containers | {name for name in after if after[name] is not before[name]}) - constant

    def check(self: Any, name: str) -> None:
        if name not in states[id(self)] or object.__getattribute__(self, "_lock")._is_owned():
            return
        if name in shared or object.__getattribute__(self, "_sampling") != threading.get_ident():
            violations.append(f"{type(self).__name__}.{name}")

    def get(self: Any, name: str) -> Any:
        check(self, name)
        return object.__getattribute__(self, name)

    def put(self: Any, name: str, value: object) -> None:
        check(self, name)
        object.__setattr__(self, name, value)

    shared = set(vars(Idle())) | {"_latest"}
    states = {id(monitor): mutable(monitor) for monitor in host.monitors}
    assert all({"_duration", "_sampled_at", "_logged"} <= names for names in states.values())
    for monitor in host.monitors:
        kind = type(monitor)
        monitor.__class__ = type(kind.__name__, (kind,), {"__getattribute__": get, "__setattr__": put})
    yield violations


def test_state_is_only_touched_with_the_lock_held(host: Host, state_checks: list[str]) -> None:
    host.add_collectives()
    each(host.methods(), 2)
    assert sorted(set(state_checks)) == []


def test_no_lock_is_held_during_io(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(nics.SysfsSource(Path("/proc"), Path("/sys")))
    found: list[str] = []

    def io(what: str, result: Any) -> Any:
        """Another thread takes every monitor's lock, while this one is in I/O."""

        def take(monitor: Monitor) -> None:
            if monitor._lock.acquire(timeout=5):
                monitor._lock.release()
            else:
                found.append(f"{what} holds the lock of {monitor.name}")

        for monitor in host.monitors:
            thread = threading.Thread(target=take, args=(monitor,))
            thread.start()
            thread.join()
        done.add(what)
        return result

    done: set[str] = set()
    row = b"eth0: " + b"1 " * 16
    monkeypatch.setattr(files, "read", lambda path: io("read", row))
    monkeypatch.setattr(icmp, "allowed", lambda: True)
    monkeypatch.setattr(icmp, "ping", lambda hosts, *_: io("ping", {}))
    monkeypatch.setattr(OwnSockets, "connections", lambda self: io("sockets", {}))
    monkeypatch.setattr(Peers, "exchange", lambda self, own: io("exchange", {}))
    monkeypatch.setattr(tcp_connect, "resolve", lambda host, port: io("resolve", [ADDRESS]))
    monkeypatch.setattr(tcp_connect, "connect", lambda addresses, timeout: io("connect", 0.001))
    monkeypatch.setattr(Histogram, "record", lambda *_: io("record", None))
    for method in host.methods():
        method()
    assert done == {"read", "resolve", "connect", "record", "ping", "sockets", "exchange"}
    assert found == []


def test_a_latency_stuck_in_io_delays_no_reader_callback_or_other_monitor(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, stuck = threading.Event(), threading.Semaphore(0)

    def connect(addresses: object, timeout: float) -> float:
        stuck.release()
        release.wait(60)
        return 0.001

    monkeypatch.setattr(tcp_connect, "connect", connect)
    measuring = threading.Thread(target=host.latency.measure_latency, daemon=True)
    whole = threading.Thread(target=host.real.get_current_metrics, daemon=True)
    measuring.start()
    whole.start()
    for _ in TARGETS:
        assert stuck.acquire(timeout=30)
    others = [
        host.interface.get_interface_stats,
        host.bandwidth.measure_bandwidth,
        host.distributed.measure_distributed_metrics,
        *(monitor.run_once for monitor in (host.interface, host.bandwidth, host.distributed)),
    ]
    try:
        # None of these may wait for the connect; the time limit is only there so that the test ends.
        together(*(functools.partial(each, [job], 5) for job in (*others, *host.readers())), timeout=30)
        assert measuring.is_alive() and whole.is_alive()
        assert not release.is_set()
    finally:
        release.set()
        measuring.join(30)
        whole.join(30)
    assert all(history[0].loss == 0 for history in host.latency.latency_history.values())


def test_bandwidth_history_is_consistent_under_24_threads() -> None:
    """Each entry's peak is the highest rate up to it; a peak that was written over would show."""
    interface = NetworkInterfaceMonitor(source=FakeSource())
    base = interface.get_interface_stats()["eth0"]
    monitor = NetworkBandwidthMonitor(interface_monitor=interface)
    stop = threading.Event()
    torn: list[object] = []

    def write(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(300):
            rate = draw.random()
            stats = dataclasses.replace(base, receive_rate=rate, transmit_rate=rate, window=1.0)
            result = monitor.update({"eth0": stats})
            if result.peak_receive_rate is None or result.peak_receive_rate < rate:
                torn.append(result)

    def read() -> None:
        for _ in range(100_000):
            if stop.is_set():
                return
            history = list(monitor.bandwidth_history)
            peaks = [stats.peak_receive_rate or 0.0 for stats in history]
            if peaks != sorted(peaks) or len(history) > 100:
                torn.append(history)

    readers = [threading.Thread(target=read, daemon=True) for _ in range(4)]
    with restless():
        for reader in readers:
            reader.start()
        together(*(functools.partial(write, seed) for seed in range(20)))
        stop.set()
        for reader in readers:
            reader.join(60)
    assert torn == []


def test_rates_are_right_under_20_threads_of_which_each_reads_at_its_own_time() -> None:
    """1,000 bytes/s by every thread's own clock; what one overtakes must not look like a reset or a jump."""
    mine = threading.local()
    ticks = itertools.count(1)

    def clock() -> float:
        mine.at = next(ticks) / 1000
        return float(mine.at)

    class Source(FakeSource):
        def read(self, *_: object) -> list[nics.NicReading]:
            return [nic(counters=counters(round(mine.at * 1000), 0))]

    monitor = NetworkInterfaceMonitor(source=Source(), rate_window=0.05, clock=clock)
    rates: list[float] = []

    def ask() -> None:
        for _ in range(300):
            rate = monitor.get_interface_stats()["eth0"].receive_rate
            if rate is not None:
                rates.append(rate)

    with restless():
        together(*[ask] * 20)
    assert len(rates) > 500  # a reading overtaken by far has no baseline left
    assert {round(rate) for rate in rates} == {1000}


def test_each_all_reduce_is_counted_once_by_20_threads() -> None:
    window = CollectiveWindow()
    # others in the window, so that reading it takes longer than a thread's turn
    for _ in range(2000):
        window.add(SeriesKey("send", "gloo", "0"), time.monotonic(), 8, 1.0, None)
    monitor = DistributedNetworkMonitor(window=window)
    durations = itertools.count(1)

    def work() -> None:
        for _ in range(4):
            window.add(SeriesKey("all_reduce", "gloo", "0"), time.monotonic(), 8, float(next(durations)), None)
            monitor.measure_distributed_metrics()

    with restless():
        together(*[work] * 20)
    assert sorted(monitor.allreduce_times) == [float(number) for number in range(1, 81)]
    assert len(monitor.performance_history) == 80


def test_latency_rounds_are_neither_lost_nor_doubled_by_20_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connect's time is unlike any other's, so each one can be found again in the histories."""
    connects = itertools.count(1)
    monkeypatch.setattr(tcp_connect, "resolve", lambda host, port: [ADDRESS])
    monkeypatch.setattr(tcp_connect, "connect", lambda addresses, timeout: float(next(connects)))
    monitor = NetworkLatencyMonitor([f"trainer-{number}:1" for number in range(16)], attempts=1, timeout=20)
    with restless():
        together(*[functools.partial(each, [monitor.measure_latency], 5)] * 20)
    histories = monitor.latency_history
    times = sorted(time for history in histories.values() for stats in history for time in stats.times)
    assert times == [float(number) for number in range(1, next(connects))]
