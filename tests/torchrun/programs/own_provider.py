"""A rank alone, whose providers are the user's own: a mode says what is wrong with them. Writes what came out."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import torch
import torch.distributed as dist
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler, SamplingResult

from otel_netmon import TorchDistributedInstrumentor
from tests.torchrun.programs.captured import write

STEPS = 6


class Broken(RuntimeError):
    pass


class RaisingExporter(SpanExporter):
    def export(self, spans: Any) -> Any:
        raise Broken("exporter")


class RaisingProcessor(SpanProcessor):
    """Raises for the spans whose name it was given."""

    def __init__(self, when: str, name: str) -> None:
        self.when, self.name = when, name

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self.when == "start" and span.name == self.name:
            raise Broken("start")

    def on_end(self, span: Any) -> None:
        if self.when == "end" and span.name == self.name:
            raise Broken("end")


class RaisingSampler(Sampler):
    """Raises for every other trace."""

    def should_sample(self, parent_context: Any, trace_id: int, *args: Any, **kwargs: Any) -> SamplingResult:
        if trace_id % 2:
            raise Broken("sampler")
        return ALWAYS_ON.should_sample(parent_context, trace_id, *args, **kwargs)

    def get_description(self) -> str:
        return "raises"


folder, mode = sys.argv[1:]
exported = InMemorySpanExporter()
provider = TracerProvider(sampler=RaisingSampler() if mode == "sampler" else None)
if mode == "exporter":
    provider.add_span_processor(BatchSpanProcessor(RaisingExporter(), schedule_delay_millis=50))
    provider.add_span_processor(SimpleSpanProcessor(RaisingExporter()))
if mode in ("start", "end"):
    provider.add_span_processor(RaisingProcessor(mode, "all_reduce"))
if mode == "rank_step":
    provider.add_span_processor(RaisingProcessor("end", "rank_step"))
provider.add_span_processor(SimpleSpanProcessor(exported))
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
if mode not in ("late", "never"):
    trace.set_tracer_provider(provider)
TorchDistributedInstrumentor().instrument()
torch.manual_seed(0)
dist.init_process_group("gloo")
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
losses = []
for step in range(STEPS):
    loss = model(torch.ones(2, 4)).square().mean()
    loss.backward()
    for parameter in model.parameters():
        dist.all_reduce(parameter.grad)
    optimizer.step()
    losses.append(loss.item())
    if step == 3 and mode in ("late", "twice"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trace.set_tracer_provider(provider if mode == "late" else TracerProvider())
TorchDistributedInstrumentor().uninstrument()
data: Any = reader.get_metrics_data()
found = {m.name: m.data.data_points for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}
names = [span.name for span in exported.get_finished_spans()]
write(
    folder,
    0,
    {
        "losses": losses,
        "spans": {name: names.count(name) for name in sorted(set(names))},
        "measured": sum(p.count for p in found["torch.distributed.collective.duration"]),
    },
)
