"""What telemetry of ranks costs on its way to a database: through the shipped agent and gateway, by the Collector.

Bytes are those between agent and gateway, gzip and gRPC included. ClickHouse is its engine in a process (chDB)
behind a bridge, so how fast rows are taken, and for what CPU, is told for an exporter that drops them.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import socketserver
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

import psutil

from benchmarks.made_up_ranks import Sent, requests
from benchmarks.measuring import ROOT, Line, Size, spread
from otel_netmon.delivery.connect import connect
from otel_netmon.delivery.transport import Transport
from tests.e2e.servers import free_ports, server, wait_for

_CONFIGS: Final = ROOT / "collector-config"
_TABLES: Final = {"traces": "otel_traces", "logs": "otel_logs"}
_SHAPES: Final[tuple[tuple[Literal["full", "steps"], range, int, int], ...]] = (
    ("full", range(8), 8, 40),
    # Of these ranks, as of most, no collective is a span; every hundredth step is whole.
    ("steps", range(1, 9), 1000, 2000),
)
"""Volume, ranks of one node, those of the job, and steps."""


def collected(size: Size) -> Iterator[Line]:
    """Rows of both volumes; a row is a span or a log event."""
    places = (os.environ.get("OTEL_NETMON_TEST_BIN"), os.environ.get("PATH"))
    program = shutil.which("otelcol", path=os.pathsep.join(filter(None, places)))
    if program is None:
        yield Line("the Collector", note="no otelcol on PATH, nor in the folder that OTEL_NETMON_TEST_BIN names")
        return
    for volume, numbers, world, steps in _SHAPES[: size(2, 1)]:
        sent = list(requests(volume, numbers[: size(8)], world, size(steps)))
        rows = sum(each.rows for each in sent)
        what = f"volume {volume}"
        raw = sum(len(each.data) for each in sent) / rows
        yield Line(f"{what}: OTLP from the rank, a row, raw", "By", spread([raw]))
        with tempfile.TemporaryDirectory() as folder, _pipeline(program, Path(folder), to_database=False) as way:
            seconds = way.carry(sent)
            yield Line(f"{what}: between agent and gateway, a row", "By", spread([way.bytes / rows]))
            yield Line(f"{what}: rows taken, on the clock", "1/s", spread([rows / seconds]))
            for name, cpu in way.cpu().items():
                yield Line(f"{what}: CPU of the {name}, 1,000 rows", "ms", spread([cpu * 1e6 / rows]))
        yield from _stored(program, what, sent)


def _stored(program: str, what: str, sent: Sequence[Sent]) -> Iterator[Line]:
    if find_spec("chdb") is None:
        yield Line(f"{what}: on disk", note="needs pip install 'otel-netmon[analyze]'")
        return
    with tempfile.TemporaryDirectory() as folder, _pipeline(program, Path(folder), to_database=True) as way:
        way.carry(sent)
        for signal, (rows, stored) in way.stored().items():
            yield Line(f"{what}: on disk, a row of {signal}, MergeTree", "By", spread([stored / rows]))


class _Way:
    """From a rank's exporter to the end."""

    def __init__(
        self, agent: int, said: int, between: _Relay, processes: Mapping[str, int], database: int
    ) -> None:
        """Ports, and process ids by name."""
        endpoint = {"endpoint": f"http://127.0.0.1:{agent}", "insecure": True}
        self._transports: dict[str, Transport] = {
            "traces": connect("traces", **endpoint),
            "logs": connect("logs", **endpoint),
        }
        self._said = said
        self._between = between
        self._processes = {name: psutil.Process(pid) for name, pid in processes.items()}
        self._began = self._cpu()
        self._database = database

    def carry(self, sent: Sequence[Sent]) -> float:
        """Send all, and wait until it has arrived; seconds."""
        expected = Counter[str]()
        start = time.perf_counter()
        for each in sent:
            while self._transports[each.signal].send(each.data, 60).kind != "delivered":
                time.sleep(0.05)
            expected[each.signal] += each.rows
        wait_for(self._arrived, lambda had: had >= expected, 120)
        return time.perf_counter() - start

    def _arrived(self) -> Counter[str]:
        """Rows that the gateway has handed over, by its own count."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._said}/metrics", timeout=10) as answer:
            lines = [line.rpartition(" ") for line in answer.read().decode().splitlines()]
        return Counter(
            {
                signal: sum(
                    int(float(value))
                    for name, _, value in lines
                    if name.startswith(f"otelcol_exporter_sent_{word}")
                )
                for signal, word in (("traces", "spans"), ("logs", "log_records"))
            }
        )

    @property
    def bytes(self) -> int:
        """That the agent sent."""
        return self._between.bytes

    def cpu(self) -> dict[str, float]:
        """Seconds of each process since it was ready."""
        return {name: now - self._began[name] for name, now in self._cpu().items()}

    def _cpu(self) -> dict[str, float]:
        times = {name: process.cpu_times() for name, process in self._processes.items()}
        return {name: each.user + each.system for name, each in times.items()}

    def stored(self) -> dict[str, tuple[int, int]]:
        """By signal that there is, rows and bytes of the tables, merged."""
        found = {}
        for signal, table in _TABLES.items():
            self._ask(f"OPTIMIZE TABLE otel.{table} FINAL")
            columns = "sum(rows), sum(bytes_on_disk)"
            where = f"active AND database = 'otel' AND table = '{table}'"
            rows, stored = map(
                int, self._ask(f"SELECT {columns} FROM system.parts WHERE {where} FORMAT TSV").split()
            )
            if rows:
                found[signal] = rows, stored
        return found

    def _ask(self, query: str) -> str:
        request = urllib.request.Request(f"http://127.0.0.1:{self._database}/?database=otel", query.encode())
        with urllib.request.urlopen(request, timeout=120) as answer:
            return str(answer.read().decode())


@contextlib.contextmanager
def _pipeline(program: str, folder: Path, *, to_database: bool) -> Iterator[_Way]:
    """The shipped agent and gateway, nothing sampled, and behind them ClickHouse or nobody."""
    grpc, http, gateway, prometheus, said, database = free_ports(6)
    last = "clickhouse" if to_database else "debug"
    about: dict[str, Any] = {"verbosity": "basic"} if last == "debug" else {
        "endpoint": f"http://127.0.0.1:{database}", "database": "otel", "create_schema": True, "compress": "none",
        "async_insert": False, "timeout": "60s",
        "sending_queue": {
            "sizer": "bytes", "queue_size": 1 << 30, "batch": {"flush_timeout": "1s", "min_size": 4 << 20},
        },
    }  # fmt: skip
    reader = {"pull": {"exporter": {"prometheus": {"host": "127.0.0.1", "port": said}}}}
    overlay = {
        "exporters": {last: about},
        "service": {
            "pipelines": {"traces/sampled": {"exporters": [last]}, "logs": {"exporters": [last]}},
            "telemetry": {"metrics": {"level": "basic", "readers": [reader]}},
        },
    }
    (folder / "overlay.json").write_text(json.dumps(overlay))
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(_relay(gateway))
        if to_database:
            bridge = [sys.executable, "-m", "tests.e2e.clickhouse_bridge", str(folder / "data"), str(database)]
            stack.enter_context(server(bridge, [database], folder / "bridge.log", {"PYTHONPATH": str(ROOT)}))
        environ = {
            "OTLP_HOST": "127.0.0.1", "OTLP_GRPC_PORT": str(gateway),
            "PROMETHEUS_ENDPOINT": f"127.0.0.1:{prometheus}", "DECISION_WAIT": "1s", "KEEP_PERCENT": "100",
            "QUEUE_DIR": str(folder / "gateway"),
        }  # fmt: skip
        configs = [f"--config={_CONFIGS / 'gateway.yaml'}", f"--config={folder / 'overlay.json'}"]
        behind = server([program, *configs], (gateway, said), folder / "gateway.log", environ)
        node = {
            "OTLP_GRPC_PORT": str(grpc), "OTLP_HTTP_PORT": str(http), "GATEWAY_INSECURE": "true",
            "GATEWAY_ENDPOINT": f"127.0.0.1:{relay.server_address[1]}", "QUEUE_DIR": str(folder / "agent"),
        }  # fmt: skip
        processes = {"gateway": stack.enter_context(behind).pid}
        before = server([program, f"--config={_CONFIGS / 'agent.yaml'}"], (grpc, http), folder / "agent.log", node)
        processes["agent"] = stack.enter_context(before).pid
        yield _Way(grpc, said, relay, processes, database)


class _Relay(socketserver.ThreadingTCPServer):
    """Counts what passes to a port."""

    daemon_threads = True
    to = 0
    bytes = 0


class _Both(socketserver.BaseRequestHandler):
    """One connection."""

    server: _Relay

    def handle(self) -> None:
        with socket.create_connection(("127.0.0.1", self.server.to)) as there:
            back = threading.Thread(target=_copy, args=(there, self.request, lambda _: None), daemon=True)
            back.start()
            _copy(self.request, there, self._count)

    def _count(self, some: int) -> None:
        self.server.bytes += some


def _copy(source: socket.socket, target: socket.socket, count: Any) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            count(len(data))
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def _relay(to: int) -> Iterator[_Relay]:
    with _Relay(("127.0.0.1", 0), _Both) as relay:
        relay.to = to
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        try:
            yield relay
        finally:
            relay.shutdown()
