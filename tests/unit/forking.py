"""Runs in a process of its own: each lock of ours is held by a thread at a fork, and the child trains.

``python -m tests.unit.forking`` prints, as JSON, what each child did; ``null`` for one that hung.
"""

from __future__ import annotations

import _thread
import gc
import json
import os
import select
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_netmon import NetmonInstrumentor, TorchDistributedInstrumentor, threads
from otel_netmon.delivery.local_files import LocalSpanExporter
from otel_netmon.delivery.send_queue import SendQueue
from otel_netmon.delivery.transport import Transport

LIMIT = 10.0
kept = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(kept))
files = LocalSpanExporter()


def no_transport() -> Transport:
    raise OSError("no collector in this test")


queue = SendQueue(no_transport, "traces", Path(os.environ["OTEL_NETMON_SPOOL_DIR"]), 1 << 20)


def train() -> int:
    """Two steps and what belongs to them; how many all_reduces have spans."""
    kept.clear()
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
    dist.destroy_process_group()
    spans = [span for span in kept.get_finished_spans() if span.name == "all_reduce"]
    files.export(kept.get_finished_spans())
    queue.put(b"x", 1)
    return len(spans)


def locks() -> dict[str, Any]:
    """Every lock that an object or a module of ours has, but for those that are an event's own."""
    found = {}
    kinds = (_thread.RLock, _thread.LockType)
    owners = [(name, module) for name, module in sys.modules.items() if name.startswith("otel_netmon")]
    for thing in gc.get_objects():
        cls = type(thing)
        if str(cls.__module__).startswith("otel_netmon") and not isinstance(thing, threads.Event):
            owners.append((f"{cls.__module__}.{cls.__qualname__}", thing))
    for name, owner in owners:
        for attribute, value in list(getattr(owner, "__dict__", {}).items()):
            if isinstance(value, kinds):
                found[f"{name}.{attribute}"] = value
    return found


def holding(lock: Any) -> threading.Event:
    """Have another thread take ``lock``; the event lets it go."""
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            release.wait(60)

    threading.Thread(target=hold, daemon=True).start()
    assert held.wait(10), "nobody gets the lock"
    return release


def child_of(lock: Any) -> int | None:
    release = holding(lock)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, str(train()).encode())
        finally:
            os._exit(0)
    release.set()
    os.close(writing)
    ready, _, _ = select.select([reading], [], [], LIMIT)
    said = os.read(reading, 16) if ready else b""
    os.close(reading)
    if not said:
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return int(said) if said else None


def main() -> None:
    NetmonInstrumentor().instrument(meter_provider=MeterProvider([InMemoryMetricReader()]))
    TorchDistributedInstrumentor().instrument(
        tracer_provider=provider, meter_provider=MeterProvider([InMemoryMetricReader()])
    )
    assert train() == 2
    time.sleep(0.2)
    json.dump({name: child_of(lock) for name, lock in locks().items()}, sys.stdout)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
