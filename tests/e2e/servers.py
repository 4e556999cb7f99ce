"""Real servers and jobs: started on free ports, always ended."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil


def free_ports(count: int) -> list[int]:
    """Ports of the loopback address that were free just now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def server(
    command: Sequence[str], ports: Sequence[int], log: Path, environ: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``command`` until it listens on all ``ports``; end it with SIGTERM, after 20 s with SIGKILL."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env={**os.environ, **environ}, stdout=output, stderr=subprocess.STDOUT, cwd=log.parent
        )
    try:
        deadline = time.monotonic() + 60
        for port in ports:
            while True:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, f"port {port}: {log.read_text()}"
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                    break
                time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def run(command: Sequence[str], environ: Mapping[str, str], *, timeout: float = 120) -> tuple[int, str]:
    """Exit code and output of a job; its whole tree is killed when the time is up."""
    process = subprocess.Popen(
        command, env=dict(environ), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    except BaseException:
        tree = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        for member in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        process.communicate()
        raise
    return process.returncode, output


def wait_for(read: Callable[[], Any], enough: Callable[[Any], bool], timeout: float = 30) -> Any:
    """What ``read`` gives once it is ``enough``."""
    deadline = time.monotonic() + timeout
    while not enough(found := read()):
        assert time.monotonic() < deadline, str(found)[:3000]
        time.sleep(0.2)
    return found


def get_json(url: str) -> Any:
    """What a server answers."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def attributes(of: dict[str, Any]) -> dict[str, Any]:
    """OTLP's key-value pairs as a dict; 64-bit integers are strings in OTLP JSON."""
    pairs: dict[str, Any] = {}
    for pair in of.get("attributes", []):
        ((kind, value),) = pair["value"].items()
        pairs[pair["key"]] = int(value) if kind == "intValue" else value
    return pairs


def spans_in(files: Iterable[Path]) -> list[dict[str, Any]]:
    """The spans of OTLP JSON lines, with attributes, resource and scope as plain values; without a line that is
    being written."""
    return [
        {
            **span,
            "attributes": attributes(span),
            "resource": attributes(group["resource"]),
            "scope": scope["scope"]["name"],
        }
        for file in files
        for line in file.read_text().split("\n")[:-1]
        for group in json.loads(line)["resourceSpans"]
        for scope in group["scopeSpans"]
        for span in scope["spans"]
    ]


def collector_overlay(folder: Path) -> dict[str, Any]:
    """Lets the shipped configuration also write what arrives into files, by pipelines of their own."""
    signals = ("traces", "metrics")
    return {
        "exporters": {f"file/{signal}_in": {"path": str(folder / f"{signal}.jsonl")} for signal in signals},
        "service": {
            "pipelines": {
                f"{signal}/file": {"receivers": ["otlp"], "exporters": [f"file/{signal}_in"]} for signal in signals
            }
        },
    }


QUIET = {"OTEL_TRACES_SAMPLER": "always_off"}
"""For Jaeger's environment: it traces itself, and at its end tries for 10 s to send that to nobody."""


def jaeger_config(otlp: int, http: int, grpc: int) -> dict[str, Any]:
    """Jaeger with its store in memory, on these ports."""
    return {
        "extensions": {
            "jaeger_storage": {"backends": {"memory": {"memory": {"max_traces": 1000}}}},
            "jaeger_query": {
                "storage": {"traces": "memory"},
                "http": {"endpoint": f"127.0.0.1:{http}"},
                "grpc": {"endpoint": f"127.0.0.1:{grpc}"},
            },
        },
        "receivers": {"otlp": {"protocols": {"grpc": {"endpoint": f"127.0.0.1:{otlp}"}}}},
        "exporters": {"jaeger_storage_exporter": {"trace_storage": "memory"}},
        "service": {
            "extensions": ["jaeger_storage", "jaeger_query"],
            "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"]}},
            "telemetry": {"metrics": {"level": "none"}},
        },
    }
