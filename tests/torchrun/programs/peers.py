"""Trains a little in two groups, twice, each time initialised anew; tells what was seen of its connections."""

import json
import os
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_netmon import NetmonInstrumentor, TorchDistributedInstrumentor

spans = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
reader = InMemoryMetricReader()
meters = MeterProvider([reader])
NetmonInstrumentor().instrument(meter_provider=meters)
TorchDistributedInstrumentor().instrument(tracer_provider=provider, meter_provider=meters)


addresses: set[str] = set()


def totals() -> dict[str, dict[str, float]]:
    data = reader.get_metrics_data()
    found: dict[str, dict[str, float]] = {}
    assert data is not None
    for metric in (m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics):
        if metric.name.startswith("otel_netmon.tcp.") or metric.name == "otel_netmon.monitor.success":
            for point in metric.data.data_points:
                about = point.attributes or {}
                if "network.peer.address" in about:
                    addresses.add(str(about["network.peer.address"]))
                key = "/".join(str(v) for k, v in sorted(about.items()) if k != "network.peer.address")
                found.setdefault(metric.name.removeprefix("otel_netmon."), {})[key] = point.value  # type: ignore[union-attr]  # a point of the kind that is asked for
    return found


seen = []
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
agent = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
for attempt in range(2):
    # a prefix per initialisation: torch's own second one on the same keys hangs now and then
    store = dist.PrefixStore(f"attempt{attempt}", agent)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size)
    half = dist.new_group([0, 1])
    weights = torch.nn.Linear(500, 500)
    optimizer = torch.optim.SGD(weights.parameters(), lr=0.1)
    for _ in range(10):
        for parameter in weights.parameters():
            parameter.grad = torch.ones_like(parameter)
            dist.all_reduce(parameter.grad, group=half)
        optimizer.step()
        time.sleep(0.05)
    dist.barrier()
    time.sleep(1.0)  # silence, and some samples
    seen.append(totals())
    dist.barrier()
    dist.destroy_process_group()
TorchDistributedInstrumentor().uninstrument()
NetmonInstrumentor().uninstrument()
report = {
    "seen": seen,
    "addresses": sorted(addresses),
    "events": [
        {
            "span": span.name,
            "start": span.start_time,
            "end": span.end_time,
            "at": event.timestamp,
            **dict(event.attributes or {}),
        }
        for span in spans.get_finished_spans()
        for event in span.events
        if event.name == "tcp.peer"
    ],
}
(Path(sys.argv[1]) / f"{rank}.json").write_text(json.dumps(report))
