"""CPU time of the monitors, and of reading this process's TCP connections beside other ways to read them."""

from __future__ import annotations

import contextlib
import importlib
import resource
import socket
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from benchmarks.measuring import Line, Size, spread, turns
from otel_netmon.job import peers
from otel_netmon.job.peers import Connection, Host, Peer
from otel_netmon.monitors import Monitor
from otel_netmon.monitors.own_sockets import OwnSockets
from otel_netmon.monitors.registry import monitors_for


class Everyone:
    """A directory to which every connection is one of the training's."""

    def exchange(self, own: Collection[Connection]) -> dict[Connection, Peer]:
        """All of them lead to rank 1."""
        return {one: Peer(1, "trainer-2") for one in own}

    def some_hosts(self, _most: int) -> list[Host]:
        """None."""
        return []

    def store_endpoint(self) -> None:
        """None."""


@contextlib.contextmanager
def connected(count: int) -> Iterator[None]:
    """So many connections' ends in this process, over loopback."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        for _ in range(count // 2):
            stack.enter_context(socket.create_connection(server.getsockname()))
            stack.enter_context(server.accept()[0])
        yield


def cpu_ms(work: Callable[[], object]) -> float:
    """Of all threads."""
    start = time.process_time_ns()
    work()
    return (time.process_time_ns() - start) / 1e6


def monitors(size: Size) -> Iterator[Line]:
    """One round of all that run by default, each in a thread of its own, as the scheduler has them."""
    peers.directory = Everyone()
    with connected(20):
        chosen = monitors_for(host=True, rank=True)
        reader = InMemoryMetricReader()
        meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("bench")
        for one in chosen:
            one.register(meter)

        def round_of(*some: Monitor) -> Callable[[], object]:
            threads = ThreadPoolExecutor(len(some))
            return lambda: all(threads.map(lambda one: one.run_once(), some, timeout=60))

        ways = {"all monitors": round_of(*chosen), **{one.name: round_of(one) for one in chosen}}
        ways["one export of their series"] = reader.get_metrics_data
        for way in ways.values():
            way()
        found = turns({name: lambda way=way: cpu_ms(way) for name, way in ways.items()}, size(100))  # type: ignore[misc]  # mypy infers no lambda with defaults
    what = "monitors, one round with 20 connections, CPU"
    for name, values in found.items():
        total = name == "all monitors"
        yield Line(f"{what}: {name}", "ms", spread(values), None, "4.3" if total else "", 10.0 if total else None)


def ways_to_read() -> dict[str, Callable[[], object]]:
    """Ours asks each of its own descriptors; the others walk all of the host's sockets."""
    sockets = OwnSockets()
    found: dict[str, Callable[[], object]] = {
        "otel-netmon": lambda: sockets.read(sockets.connections()),
        "psutil.net_connections (no TCP_INFO)": lambda: psutil.net_connections("tcp"),
    }
    with contextlib.suppress(ImportError):
        pyroute2 = importlib.import_module("pyroute2")
        diag = pyroute2.DiagSocket()
        diag.bind()
        found["pyroute2 get_sock_stats"] = lambda: diag.get_sock_stats(
            family=socket.AF_INET, extensions=2, states=1 << 1
        )
    for way in found.values():
        way()
    return found


def connections(size: Size) -> Iterator[Line]:
    """By their number."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    before = {10: "0.06", 100: "0.66", 1000: "7.7"}
    for count in (10, 100, 1000):
        with connected(count):
            ways = ways_to_read()
            found = turns({name: lambda way=way: cpu_ms(way) for name, way in ways.items()}, size(20))  # type: ignore[misc]  # mypy infers no lambda with defaults
        for name, values in found.items():
            ours = name == "otel-netmon"
            most = 10.0 if ours and count == 1000 else None
            what = f"reading {count:,} TCP connections of a rank, CPU: {name}"
            yield Line(what, "ms", spread(values), None, before[count] if ours else "", most)
