"""Starting and stopping, over and over: no thread, descriptor or memory is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import gc, json, os, resource, sys, threading
import torch, torch.distributed as dist
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from otel_netmon import NetmonInstrumentor, TorchDistributedInstrumentor

spans = InMemorySpanExporter()
tracers = TracerProvider()
tracers.add_span_processor(SimpleSpanProcessor(spans))
meters = MeterProvider([InMemoryMetricReader()])
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)

def cycle():
    NetmonInstrumentor().instrument(meter_provider=meters)
    TorchDistributedInstrumentor().instrument(tracer_provider=tracers, meter_provider=meters)
    dist.all_reduce(torch.ones(4))
    TorchDistributedInstrumentor().uninstrument()
    NetmonInstrumentor().uninstrument()
    found = sum(span.name == "all_reduce" for span in spans.get_finished_spans())
    spans.clear()
    assert found == 1, found

def state():
    gc.collect()
    rss = int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
    return threading.active_count(), len(os.listdir("/proc/self/fd")), rss

for _ in range(20):
    cycle()
before = state()
for _ in range(100):
    cycle()
print(json.dumps([before, state()]))
dist.destroy_process_group()
"""


@pytest.mark.row("both instrumentors started and stopped 100 times")
def test_a_hundred_cycles_of_both_instrumentors() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (threads, files, memory), (threads_after, files_after, memory_after) = json.loads(done.stdout)
    assert (threads_after, files_after) == (threads, files)
    assert memory_after - memory < 4 << 20  # 40 kB a cycle would be a leak
