"""One rank's emitter, with an SDK that keeps everything in memory. Needs no torch."""

from __future__ import annotations

import time
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from otel_netmon.capture.event import CollectiveEvent, CollectiveKind
from otel_netmon.capture.operations import OPERATIONS
from otel_netmon.capture.ring import EventRing
from otel_netmon.config import Config
from otel_netmon.emit.emitter import Emitter
from otel_netmon.emit.metrics import CollectiveMetrics
from otel_netmon.emit.spans import SpanWriter
from otel_netmon.job.groups import Group
from otel_netmon.job.identity import RunId
from otel_netmon.job.job import Job
from otel_netmon.job.roles import RankIdentity
from otel_netmon.job.steps import Step, StepMarks

RUN = "a run"
ALL_REDUCE = OPERATIONS["allreduce_"]


class Dtype:
    """torch's, as far as it is read: these tests need no torch."""

    itemsize = 4

    def __str__(self) -> str:
        return "torch.float32"


FLOAT32 = Dtype()


def settings_with(**settings: Any) -> Config:
    """Settings with nothing that comes by the clock, unless it is said."""
    return Config(**{"window": 0.0, "stall_after": 0.0, "heartbeat": 0.0, **settings})


def job_of(rank: int | None, attempt: int = 0, ranks: int = 4) -> Job:
    """A job of so many ranks, all on one host, without a store."""
    return Job(RankIdentity(rank, rank, ranks), RunId(None, 0.0, attempt=attempt), None)


class Rank:
    """One rank's emitter with an SDK that keeps everything in memory."""

    run = RUN

    def __init__(
        self,
        rank: int = 0,
        *,
        sampler: Sampler | None = None,
        hold: int = 100,
        trace_every: int | None = None,
        window: int = 0,
        attempt: int = 0,
        ranks: int = 4,
        **more: Any,
    ) -> None:
        self.made = time.monotonic_ns()
        self.exported = InMemorySpanExporter()
        provider = self.provider = TracerProvider(sampler=sampler)
        provider.add_span_processor(SimpleSpanProcessor(self.exported))
        self.reader = InMemoryMetricReader()
        self.ring = EventRing(1000)
        self.meter_provider = MeterProvider([self.reader])
        sink = CollectiveMetrics.of(self.meter_provider, self.ring)
        settings = settings_with(ring_size=hold, trace_every=trace_every, window=window / 1e9, **more)
        self.job = job_of(rank, attempt, ranks)
        self.emitter = Emitter(sink, SpanWriter(provider), settings, self.job)
        self.group = Group("0", 4, rank, "gloo")

    def event(
        self,
        boundary: int = 0,
        start: int = 1000,
        end: int | None = 2000,
        error: str | None = None,
        group: Group | None = None,
        **kind: Any,
    ) -> Any:
        event = CollectiveEvent(
            CollectiveKind(ALL_REDUCE, group or self.group, 4000, FLOAT32, **kind), start, boundary, 7
        )
        event.end, event.error = end, error
        return event

    def play(self, *steps: Step, events: list[CollectiveEvent]) -> list[ReadableSpan]:
        settled = max((step.last_boundary for step in steps), default=0)
        self.emitter.marks(StepMarks(list(steps), len(steps), settled))
        self.emitter.take(events)
        self.emitter.emit(self.run)
        self.emitter.emit_intervals(self.run, None)
        return list(self.exported.get_finished_spans())

    def points(self, metric: str) -> Any:
        data = self.reader.get_metrics_data()
        assert data is not None
        metrics = {m.name: m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}
        return metrics[metric].data.data_points


STEP = Step(0, last_boundary=1, start=500, end=3000)


def by_name(spans: list[ReadableSpan]) -> dict[str, ReadableSpan]:
    return {span.name: span for span in spans}


def context(span: ReadableSpan) -> trace.SpanContext:
    found: trace.SpanContext | None = span.context
    assert found is not None
    return found
