"""Process groups of one process, and capture on them by each backend, with or without delivery."""

from __future__ import annotations

import contextlib
import importlib
import os
import struct
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from otel_netmon import TorchDistributedInstrumentor, config

Providers = tuple[TracerProvider, MeterProvider]
Call = Callable[[torch.Tensor], Any]


class Nowhere(SpanExporter):
    """Takes spans and forgets them: the exporter is not what is measured."""

    def export(self, spans: Any) -> SpanExportResult:  # noqa: ARG002 - the interface
        return SpanExportResult.SUCCESS


def providers_to_nowhere() -> Providers:
    """Those that export nothing."""
    tracer_provider = TracerProvider(shutdown_on_exit=False)
    tracer_provider.add_span_processor(BatchSpanProcessor(Nowhere(), max_queue_size=32768))
    return tracer_provider, MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)


def providers_to(kind: str, where: str) -> Providers:
    """As ``otel-netmon run`` sets them up: to ``"files"`` in a folder, or by ``"OTLP"`` to an endpoint."""
    from otel_netmon.delivery.exporters import OtlpMetricExporter, OtlpSpanExporter
    from otel_netmon.delivery.local_files import LocalMetricExporter, LocalSpanExporter

    of_files = kind == "files"
    os.environ[config.OUTPUT_DIR if of_files else "OTEL_EXPORTER_OTLP_ENDPOINT"] = where
    os.environ["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf"
    config.current.cache_clear()
    spans, metrics = (
        (LocalSpanExporter(), LocalMetricExporter()) if of_files else (OtlpSpanExporter(), OtlpMetricExporter())
    )
    tracer_provider = TracerProvider(shutdown_on_exit=False)
    delay = 250 if of_files else 500
    tracer_provider.add_span_processor(
        BatchSpanProcessor(spans, max_queue_size=32768, schedule_delay_millis=delay)
    )
    reader = PeriodicExportingMetricReader(metrics, export_interval_millis=5000)
    return tracer_provider, MeterProvider([reader], shutdown_on_exit=False)


def backends() -> dict[str, str]:
    """Each way to capture, and why it cannot be measured here; empty where it can."""
    has_hooks = hasattr(dist.ProcessGroup, "register_pre_hook")
    why = "" if has_hooks else f"torch {torch.__version__} has no hooks"
    return {"native": why or _native(), "hooks": why, "dispatcher": ""}


def _native() -> str:
    try:
        loader = importlib.import_module("otel_netmon.capture.native.loader")
    except ImportError:
        return "not in this version"
    return "" if loader.find() is not None else "not built: otel-netmon build"


@contextlib.contextmanager
def capturing(backend: str, providers: Providers) -> Iterator[None]:
    """Collectives of this process are captured in this way meanwhile."""
    os.environ["OTEL_NETMON_CAPTURE"] = backend
    config.current.cache_clear()
    tracer_provider, meter_provider = providers
    instrumentor = TorchDistributedInstrumentor()
    instrumentor.instrument(tracer_provider=tracer_provider, meter_provider=meter_provider)
    try:
        yield
    finally:
        instrumentor.uninstrument()


@contextlib.contextmanager
def group(backend: str) -> Iterator[None]:
    """A default process group of this process alone. torch's fake backend completes at once, so that nothing but
    the calling thread is measured."""
    if backend == "fake":
        from torch.testing._internal.distributed.fake_pg import FakeStore

        dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
        fake = getattr(torch._C._distributed_c10d, "FakeWork", None)
        if fake is not None and "wait" in vars(fake):
            del fake.wait  # a method of its own in some versions; real works have the common one
    else:
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def blocking(tensor: torch.Tensor) -> None:
    """One collective."""
    dist.all_reduce(tensor)


def asynchronous(tensor: torch.Tensor) -> None:
    """One collective, waited for at once."""
    dist.all_reduce(tensor, async_op=True).wait()


_HOOKS = """
#include <torch/extension.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
void attach(const c10::intrusive_ptr<c10d::ProcessGroup>& group) {
  group->registerPreHook(77, [](const c10d::PreHookArgs&) {});
  group->registerPostHook(77, [](const c10d::PostHookArgs&) {});
}
void detach(const c10::intrusive_ptr<c10d::ProcessGroup>& group) {
  group->unregisterPreHook(77);
  group->unregisterPostHook(77);
}
"""


def empty_hooks() -> Any:
    """A module with ``attach(group)`` and ``detach(group)`` for a pair of C++ hooks that do nothing.

    ``None`` where it cannot be compiled. Takes a minute the first time; torch keeps it with its other extensions.
    """
    from torch.utils.cpp_extension import load_inline

    if not hasattr(dist.ProcessGroup, "register_pre_hook"):
        return None
    try:
        return load_inline("otel_netmon_bench_hooks", _HOOKS, functions=["attach", "detach"])
    except (RuntimeError, OSError, ImportError):
        return None


def packing(count: int = 100_000) -> float:
    """Microseconds of one ``struct.pack`` of a span's changing fields: what encoding cannot do without."""
    import time

    pack = struct.Struct("<16s8s8sQQQdd").pack
    trace, span = bytes(16), bytes(8)
    start = time.thread_time()
    for number in range(count):
        pack(trace, span, span, number, number, number, 1.0, 2.0)
    return (time.thread_time() - start) / count * 1e6
