"""CPU time of reading this process's TCP connections, against other ways to read them.

Run: ``python benchmarks/bench_tcp.py [--rounds N] [--json]``. Ours asks each of its own descriptors; the others
walk all of the host's sockets. pyroute2 is measured where it is installed. Goal: 10 ms for 1,000 connections. All
ways take turns in one process.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import resource
import socket
import statistics
import time
from collections.abc import Callable, Iterator

import psutil

from otel_netmon.monitors.own_sockets import OwnSockets

GOAL_MS = 10.0
SIZES = (10, 100, 1000)
OURS = "otel-netmon: find and read"


@contextlib.contextmanager
def connections(count: int) -> Iterator[None]:
    """So many connections' ends in this process, over loopback."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1024))
        for _ in range(count // 2):
            stack.enter_context(socket.create_connection(server.getsockname()))
            stack.enter_context(server.accept()[0])
        yield


def ways() -> dict[str, Callable[[], object]]:
    """Each way to read, warmed up."""
    sockets = OwnSockets()
    own = sockets.connections()
    found: dict[str, Callable[[], object]] = {
        OURS: lambda: sockets.read(sockets.connections()),
        "otel-netmon: find": sockets.connections,
        "otel-netmon: read": lambda: sockets.read(own),
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    results: dict[str, dict[int, float]] = {}
    for size in SIZES:
        with connections(size):
            taken: dict[str, list[float]] = {}
            for _ in range(options.rounds):
                for name, way in ways().items():
                    start = time.process_time_ns()
                    way()
                    taken.setdefault(name, []).append((time.process_time_ns() - start) / 1e6)
        for name, times in taken.items():
            results.setdefault(name, {})[size] = statistics.median(times)
    ours = results[OURS]
    met = ours[SIZES[-1]] <= GOAL_MS
    if options.json:
        print(json.dumps({"rounds": options.rounds, "goal_ms": GOAL_MS, "met": met, "cpu_ms": results}))
        return
    print(f"CPU time in ms, median of {options.rounds} rounds, by connections of this process (ratio to ours)")
    print(f"{'':38}" + "".join(f"{size:>18}" for size in SIZES))
    for name, row in results.items():
        cells = "".join(f"{f'{row[size]:.2f} ({row[size] / ours[size]:.1f}x)':>18}" for size in SIZES)
        print(f"{name:38}{cells}")
    print(f"goal for {SIZES[-1]} connections: {GOAL_MS} ms: {'met' if met else 'NOT met'}")


if __name__ == "__main__":
    main()
