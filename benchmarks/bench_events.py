"""What one captured all_reduce costs the caller and the background, and what 10⁶ events cost in memory.

One process. The variants alternate in short rounds; a figure is the median over all calls of the time of one call,
and "added" is against the plain call of the same rounds. On torch's fake backend nothing but the calling thread is
measured; on gloo, in a group of one, its threads take part, and where the scheduler puts them decides more than we
do.
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

from otel_netmon import TorchDistributedInstrumentor, config
from otel_netmon.capture.event import CollectiveEvent, CollectiveKind
from otel_netmon.capture.operations import OPERATIONS
from otel_netmon.capture.ring import EventRing
from otel_netmon.emit.emitter import Emitter
from otel_netmon.emit.metrics import CollectiveMetrics
from otel_netmon.emit.spans import SpanWriter
from otel_netmon.job.groups import Group
from otel_netmon.job.identity import RunId
from otel_netmon.job.job import Job
from otel_netmon.job.roles import RankIdentity
from otel_netmon.job.steps import StepMarks

ROUNDS, CALLS = 30, 200
ALL_REDUCE = OPERATIONS["allreduce_"]


class Nowhere(SpanExporter):
    """Takes spans and forgets them: the exporter is not what is measured."""

    def export(self, spans: Any) -> SpanExportResult:  # noqa: ARG002 - the interface
        return SpanExportResult.SUCCESS


def settings(hold: int) -> tuple[config.Config, Job]:
    """Of an emitter that is never full."""
    return config.Config(ring_size=hold), Job(RankIdentity(), RunId(None, 0.0), None)


def providers() -> tuple[TracerProvider, MeterProvider]:
    tracer_provider = TracerProvider(shutdown_on_exit=False)
    tracer_provider.add_span_processor(BatchSpanProcessor(Nowhere(), max_queue_size=65536))
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


def backends() -> tuple[str, ...]:
    """Those that this torch has."""
    return ("hooks", "dispatcher") if hasattr(dist.ProcessGroup, "register_pre_hook") else ("dispatcher",)


def comms_logger() -> Callable[[torch.Tensor], Any] | None:
    """DeepSpeed's way to time collectives; ``None`` where it is not installed."""
    try:
        import deepspeed.comm as ds
    except ImportError:
        return None
    ds.init_distributed(dist_backend="gloo", auto_mpi_discovery=False, verbose=False, dist_init_required=False)
    ds.configure(enabled=True, prof_all=True, prof_ops=[], verbose=False, debug=False)
    compare: Callable[[torch.Tensor], Any] = ds.all_reduce
    return compare


def calls(asynchronous: bool) -> dict[str, list[float]]:
    """Microseconds of each call, by variant. The variants alternate in short rounds."""
    times: dict[str, list[float]] = {}
    tensor = torch.ones(16)
    instrumentor = TorchDistributedInstrumentor()
    tracer_provider, meter_provider = providers()

    def plain(tensor: torch.Tensor) -> None:
        if asynchronous:
            dist.all_reduce(tensor, async_op=True).wait()
        else:
            dist.all_reduce(tensor)

    def measure(variant: str, call: Callable[[torch.Tensor], Any]) -> None:
        for _ in range(10):
            call(tensor)
        each = times.setdefault(variant, [])
        for _ in range(CALLS):
            start = time.perf_counter_ns()
            call(tensor)
            each.append((time.perf_counter_ns() - start) / 1e3)

    wrapper, logger = naive(*providers()), comms_logger()
    for _ in range(ROUNDS):
        measure("plain", plain)
        for backend in backends():
            os.environ["OTEL_NETMON_CAPTURE"] = backend
            config.current.cache_clear()
            instrumentor.instrument(tracer_provider=tracer_provider, meter_provider=meter_provider)
            measure(backend, plain)
            instrumentor.uninstrument()
        measure("naive wrapper", wrapper)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
            measure("torch.profiler", plain)
        if logger is not None:
            measure("comms_logger", logger)
    return times


def emitting(count: int = 20_000) -> float:
    """CPU microseconds of the background per event: metrics recorded, span made and queued for export."""
    tracer_provider, meter_provider = providers()
    ring = EventRing(count)
    emitter = Emitter(CollectiveMetrics.of(meter_provider, ring), SpanWriter(tracer_provider), *settings(count))
    group = Group("0", 8, 0, "gloo")
    fill(ring, group, count)
    emitter.marks(StepMarks([], 0, 0))
    start = time.thread_time()
    while events := ring.drain(512):
        emitter.take(events)
        emitter.emit("run")
    return (time.thread_time() - start) / count * 1e6


def encoding(count: int = 2000) -> float:
    """CPU microseconds that OpenTelemetry's own exporter takes to encode one of our spans."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    memory = InMemorySpanExporter()
    tracer_provider = TracerProvider(shutdown_on_exit=False)
    tracer_provider.add_span_processor(SimpleSpanProcessor(memory))
    ring = EventRing(count)
    emitter = Emitter(CollectiveMetrics.of(providers()[1], ring), SpanWriter(tracer_provider), *settings(count))
    fill(ring, Group("0", 8, 0, "gloo"), count)
    emitter.marks(StepMarks([], 0, 0))
    emitter.take(ring.drain())
    emitter.emit("run")
    spans = memory.get_finished_spans()
    start = time.thread_time()
    for first in range(0, count, 500):
        encode_spans(spans[first : first + 500]).SerializeToString()
    return (time.thread_time() - start) / count * 1e6


def fill(ring: EventRing, group: Group, count: int) -> None:
    kind = CollectiveKind(ALL_REDUCE, group, 4096, torch.float32)
    for i in range(count):
        event = CollectiveEvent(kind, i * 1000, 0, i)
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


def added(result: dict[str, float], label: str, times: dict[str, list[float]]) -> None:
    """What each variant adds to the plain call, and how much cheaper the backends are than the others."""
    cuts = {variant: statistics.quantiles(each, n=100) for variant, each in times.items()}
    plain = cuts["plain"]
    result[f"{label}: plain call p50 (us)"] = plain[49]
    for variant, each in cuts.items():
        if variant != "plain":
            result[f"{label}: {variant} adds p50 (us)"] = each[49] - plain[49]
            result[f"{label}: {variant} adds p99 (us)"] = each[98] - plain[98]
    for backend in backends():
        for other in ("naive wrapper", "torch.profiler", "comms_logger"):
            if other in cuts:
                ours = max(cuts[backend][49] - plain[49], 0.01)
                result[f"{label}: {other} / {backend}, added p50"] = (cuts[other][49] - plain[49]) / ours


def without_a_network(result: dict[str, float]) -> None:
    """torch's fake backend completes at once: what is measured is the calling thread alone."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    fake = getattr(torch._C._distributed_c10d, "FakeWork", None)
    if fake is not None and "wait" in vars(fake):
        del fake.wait  # a method of its own in some versions; real works have the common one
    added(result, "fake, blocking", calls(asynchronous=False))
    added(result, "fake, async", calls(asynchronous=True))
    dist.destroy_process_group()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = {"torch": torch.__version__}
    without_a_network(result)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    added(result, "gloo, blocking", calls(asynchronous=False))
    added(result, "gloo, async", calls(asynchronous=True))
    dist.destroy_process_group()
    held, dropped = memory()
    result["background CPU per event, not encoded (us)"] = emitting()
    result["OTLP encoding per span, protobuf (us)"] = encoding()
    result["held after 1,000,000 events, nobody draining (MiB)"] = held
    result["dropped and counted of those"] = dropped
    if arguments.json:
        print(json.dumps({"benchmark": "events", **result}))
    else:
        for name, value in result.items():
            print(f"{name:60} {value:>12,.2f}" if isinstance(value, float) else f"{name:60} {value:>12}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
