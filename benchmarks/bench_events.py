"""What one captured all_reduce costs the caller and the background, and what 10⁶ events cost in memory.

One process, gloo, a group of one (so that nothing waits for a peer). The variants alternate in rounds within the
process; each figure is the median over all calls of the time of one call, and "added" is against the plain call
of the same rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

os.environ["OTEL_NETMON_EMIT_INTERVAL"] = "60"  # the emitter is measured by itself

import torch
import torch.distributed as dist
from opentelemetry import context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from otel_netmon import TorchDistributedInstrumentor
from otel_netmon.collectives.emit import Emitter
from otel_netmon.collectives.event import CollectiveEvent, EventRing
from otel_netmon.collectives.groups import Group
from otel_netmon.collectives.operations import OPERATIONS
from otel_netmon.collectives.sink import MetricSink
from otel_netmon.collectives.spans import SpanMaker

ROUNDS, CALLS = 20, 200
ALL_REDUCE = OPERATIONS["allreduce_"]


class Nowhere(SpanExporter):
    """Takes spans and forgets them: the exporter is not what is measured."""

    def export(self, spans: Any) -> SpanExportResult:  # noqa: ARG002 - the interface
        return SpanExportResult.SUCCESS


def providers() -> tuple[TracerProvider, MeterProvider]:
    tracer_provider = TracerProvider(shutdown_on_exit=False)
    tracer_provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    return tracer_provider, MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)


def naive(tracer_provider: TracerProvider, meter_provider: MeterProvider) -> Callable[[torch.Tensor], None]:
    """What one would write first: a span and a histogram around the call."""
    tracer = tracer_provider.get_tracer("naive")
    duration = meter_provider.get_meter("naive").create_histogram("duration", "s")

    def all_reduce(tensor: torch.Tensor) -> None:
        start = time.perf_counter()
        attributes = {"name": "all_reduce", "size": tensor.nbytes, "group": "0"}
        with tracer.start_as_current_span("all_reduce", context=context.Context(), attributes=attributes):
            dist.all_reduce(tensor)
        duration.record(time.perf_counter() - start, {"name": "all_reduce"})

    return all_reduce


def calls() -> dict[str, list[float]]:
    """Microseconds of each call, by variant."""
    times: dict[str, list[float]] = {"plain": [], "captured": [], "naive wrapper": []}
    tensor = torch.ones(16)
    wrapper = naive(*providers())
    instrumentor = TorchDistributedInstrumentor()

    def measure(variant: str, call: Callable[[torch.Tensor], Any]) -> None:
        for _ in range(10):
            call(tensor)
        for _ in range(CALLS):
            start = time.perf_counter_ns()
            call(tensor)
            times[variant].append((time.perf_counter_ns() - start) / 1e3)

    tracer_provider, meter_provider = providers()
    for _ in range(ROUNDS):
        measure("plain", dist.all_reduce)
        instrumentor.instrument(tracer_provider=tracer_provider, meter_provider=meter_provider)
        measure("captured", dist.all_reduce)
        instrumentor.uninstrument()
        measure("naive wrapper", wrapper)
    return times


def emitting(count: int = 20_000) -> float:
    """CPU microseconds of the background per event: metrics recorded, span made and queued for export."""
    tracer_provider, meter_provider = providers()
    ring = EventRing(count)
    emitter = Emitter(MetricSink.of(meter_provider, ring), SpanMaker(tracer_provider), hold=count)
    group = Group("0", 8, 0, "gloo")
    fill(ring, group, count)
    emitter.marks([], 0, 0)
    start = time.thread_time()
    while events := ring.drain(512):
        emitter.take(events)
        emitter.emit("run")
    return (time.thread_time() - start) / count * 1e6


def fill(ring: EventRing, group: Group, count: int) -> None:
    for i in range(count):
        event = CollectiveEvent(ALL_REDUCE, group, i * 1000, 0)
        event.size, event.dtype, event.sequence = 4096, torch.float32, i
        ring.begin(event)
        ring.finish(event, i * 1000 + 500, None)


def memory(count: int = 1_000_000) -> tuple[float, int]:
    """MiB held after ``count`` events that nobody takes out of the default ring, and how many were dropped."""
    ring = EventRing(16384)
    group = Group("0", 8, 0, "gloo")
    tracemalloc.start()
    fill(ring, group, count)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / 2**20, ring.overwritten


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    times = calls()
    dist.destroy_process_group()
    plain = statistics.median(times["plain"])
    held, dropped = memory()
    result: dict[str, float] = {}
    for variant, each in times.items():
        cuts = statistics.quantiles(each, n=100)
        result[f"{variant}: call p50 (us)"] = cuts[49]
        result[f"{variant}: call p99 (us)"] = cuts[98]
        if variant != "plain":
            result[f"{variant}: added p50 (us)"] = cuts[49] - plain
    result["naive / captured, added p50"] = result["naive wrapper: added p50 (us)"] / max(
        result["captured: added p50 (us)"], 0.01
    )
    result["background CPU per event (us)"] = emitting()
    result["held after 1,000,000 events, nobody draining (MiB)"] = held
    result["dropped and counted of those"] = dropped
    if arguments.json:
        print(json.dumps({"benchmark": "events", **result}))
    else:
        for name, value in result.items():
            print(f"{name:52} {value:12,.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
