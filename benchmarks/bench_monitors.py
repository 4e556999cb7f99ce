"""CPU time of one idle round of all monitors, as the scheduler runs them, and of one export of their series.

Run: ``python benchmarks/bench_monitors.py [--rounds N] [--targets N] [--json]``. Goal: 10 ms for a round as it is
by default, without a latency target; 20 connections of the process count as those of a training. CPU time of the
whole process is taken, so that the threads count.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import statistics
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_netmon.job import peers
from otel_netmon.job.peers import Connection, Host, Peer
from otel_netmon.monitors import Monitor, NetworkLatencyMonitor, choose_interfaces
from otel_netmon.monitors.registry import monitors_for

GOAL_MS = 10.0
CONNECTIONS = 20


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


def connection() -> tuple[socket.socket, socket.socket]:
    """Both ends of one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        return near, server.accept()[0]


def cpu_ms(
    work: Callable[[], object], rounds: int, between: Callable[[], object] = lambda: None
) -> dict[str, float]:
    """Median and 90th percentile of the CPU time (ms) of ``work``, over ``rounds`` calls."""
    taken = []
    for _ in range(rounds):
        start = time.process_time_ns()
        work()
        taken.append((time.process_time_ns() - start) / 1e6)
        between()
    ordered = sorted(taken)
    return {"median_ms": statistics.median(ordered), "p90_ms": ordered[int(0.9 * (len(ordered) - 1))]}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--targets", type=int, default=1, help="latency targets, all listening on this host")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    servers = [socket.create_server(("127.0.0.1", 0), backlog=128) for _ in range(options.targets)]
    targets = [f"127.0.0.1:{server.getsockname()[1]}" for server in servers]
    peers.directory = Everyone()
    joined = [end for _ in range(CONNECTIONS // 2) for end in connection()]
    monitors = monitors_for(host=True, rank=True)
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("bench")
    for one in monitors:
        one.register(meter)

    def round_of(*monitors: Monitor) -> Callable[[], object]:
        # as the scheduler does it: each in a thread of its own, which stays, and waited for
        threads = ThreadPoolExecutor(len(monitors))

        def run() -> None:
            if not all(threads.map(lambda one: one.run_once(), monitors, timeout=60)):
                raise RuntimeError("a monitor could not sample")

        run()
        return run

    def hang_up() -> None:
        # untimed: a listener that never accepts is full after some rounds, and lets connects time out
        for server in servers:
            server.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    server.accept()[0].close()
        time.sleep(0.005)

    results = {"all monitors": cpu_ms(round_of(*monitors), options.rounds, hang_up)}
    for part in monitors:
        results[part.name] = cpu_ms(round_of(part), options.rounds, hang_up)
    what = f"latency, {options.targets} target(s)"
    results[what] = cpu_ms(round_of(NetworkLatencyMonitor(targets)), options.rounds, hang_up)
    results["one export of their series"] = cpu_ms(reader.get_metrics_data, options.rounds)
    for end in (*servers, *joined):
        end.close()

    nics = [name for name, _ in choose_interfaces()]
    met = results["all monitors"]["median_ms"] <= GOAL_MS
    if options.json:
        facts = {
            "nics": nics,
            "targets": options.targets,
            "rounds": options.rounds,
            "goal_ms": GOAL_MS,
            "met": met,
        }
        print(json.dumps({**facts, "cpu": results}))
        return
    print(f"CPU time, {options.rounds} rounds; NICs: {', '.join(nics) or 'none'}")
    print(f"{'':28}{'median ms':>10}{'p90 ms':>10}")
    for name, row in results.items():
        print(f"{name:28}{row['median_ms']:>10.3f}{row['p90_ms']:>10.3f}")
    print(f"goal for all monitors: {GOAL_MS} ms: {'met' if met else 'NOT met'}")


if __name__ == "__main__":
    main()
