"""What the programs here share: providers that keep everything in memory, and a report as plain JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from otel_netmon import TorchDistributedInstrumentor


class Captured:
    """Instruments the process at once; ``report`` ends that and says what was seen."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._spans = InMemorySpanExporter()
        self._tracer_provider = TracerProvider(sampler=sampler)
        self._tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self._reader = InMemoryMetricReader()
        self._meter_provider = MeterProvider([self._reader])
        self.start()

    def start(self) -> None:
        TorchDistributedInstrumentor().instrument(
            tracer_provider=self._tracer_provider, meter_provider=self._meter_provider
        )

    def stop(self) -> None:
        TorchDistributedInstrumentor().uninstrument()

    def metrics(self) -> dict[str, Any]:
        """Metric name to its data points, as the SDK's own JSON has them."""
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric["name"]: metric["data"]["data_points"]
            for resource in json.loads(data.to_json())["resource_metrics"]
            for scope in resource["scope_metrics"]
            for metric in scope["metrics"]
        }

    def report(self) -> dict[str, Any]:
        metrics = self.metrics()
        self.stop()
        return {
            "spans": [json.loads(span.to_json()) for span in self._spans.get_finished_spans()],
            "metrics": {**metrics, **self.metrics()},
        }


def flight_recorder() -> list[dict[str, Any]]:
    """The entries of gloo's own Flight Recorder: a count of the collectives that does not depend on us."""
    from torch._C._distributed_c10d import _dump_fr_trace_json

    entries: list[dict[str, Any]] = json.loads(_dump_fr_trace_json())["entries"]
    return entries


def write(folder: str, rank: int, report: dict[str, Any]) -> None:
    Path(folder, f"{rank}.json").write_text(json.dumps(report))
