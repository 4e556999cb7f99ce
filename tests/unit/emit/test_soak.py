"""A long run compressed: memory is flat however many events went by; and clocks may jump."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

import psutil
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from otel_netmon.capture.event import CollectiveEvent, CollectiveKind
from otel_netmon.capture.ring import EventRing
from otel_netmon.emit.emitter import Emitter
from otel_netmon.emit.metrics import CollectiveMetrics
from otel_netmon.emit.spans import SpanWriter
from otel_netmon.job.groups import Group
from otel_netmon.job.steps import Step, StepMarks
from tests.unit.emit.a_rank import ALL_REDUCE, Rank, job_of, settings_with

EVENTS = int(float(os.environ.get("TEST_EVENTS", "2e5")))
"""`make chaos` takes 10,000,000: eight hours at 350 a second."""
STEP = 500


class Counting(SpanExporter):
    def __init__(self) -> None:
        self.count = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.count += len(spans)
        return SpanExportResult.SUCCESS


@pytest.mark.timeout(3600)
@pytest.mark.row("10,000,000 events, as in 8 h of training")
def test_memory_is_flat(ledger: Callable[..., None]) -> None:
    exporter, ring, reader = Counting(), EventRing(16_384), InMemoryMetricReader()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=32_768, schedule_delay_millis=100))
    sink = CollectiveMetrics.of(MeterProvider([reader]), ring)
    emitter = Emitter(sink, SpanWriter(provider), settings_with(), job_of(0))
    kind = CollectiveKind(ALL_REDUCE, Group("0", 4, 0, "gloo"), 4000)
    me, resident = psutil.Process(), []
    for number in range(EVENTS // STEP):
        since = time.monotonic_ns()
        events = []
        for boundary in range(STEP):
            event = CollectiveEvent(kind, since + boundary, number, number * STEP + boundary)
            event.end = since + boundary + 1000
            events.append(event)
        emitter.marks(
            StepMarks([Step(number, last_boundary=number + 1, start=since, end=since + 2000)], number + 1, number)
        )
        emitter.take(events)
        emitter.emit("run")
        emitter.emit_intervals("run", None)
        if number % 20 == 19:
            provider.force_flush()  # the exporter keeps pace, as it does in a job
            reader.get_metrics_data()
            resident.append(me.memory_info().rss)
    provider.shutdown()
    assert exporter.count == EVENTS + 2 * (EVENTS // STEP) and emitter.lost == 0
    settled = resident[len(resident) // 4]
    assert resident[-1] - settled < 8 << 20, [size >> 20 for size in resident]
    ledger(
        sent=EVENTS,
        lost=EVENTS + 2 * (EVENTS // STEP) - exporter.count,
        note=f"{settled / 2**20:.0f} MiB after a quarter, {resident[-1] / 2**20:.0f} at the end",
    )


@pytest.mark.row("the clock is stepped back and forth by an hour, or slewed")
def test_a_clock_that_jumps(monkeypatch: pytest.MonkeyPatch, ledger: Callable[..., None]) -> None:
    """Durations and order come from the monotonic clock, by an anchor that is taken once."""
    true_ns, offsets = time.time_ns, [0, 3600, -3600, 1, 3600, -1, 0, 7200]
    jump = [0]
    monkeypatch.setattr(time, "time_ns", lambda: true_ns() + jump[0])
    monkeypatch.setattr(time, "time", lambda: (true_ns() + jump[0]) / 1e9)
    rank = Rank()
    for number, offset in enumerate(offsets):
        jump[0] = offset * 1_000_000_000
        since = time.monotonic_ns()
        step = Step(number, last_boundary=number + 1, start=since, end=since + 5000)
        rank.emitter.marks(StepMarks([step], number + 1, number))
        rank.emitter.take([rank.event(boundary=number, start=since + 1000, end=since + 2000)])
        rank.emitter.emit("run")
        rank.emitter.emit_intervals("run", None)
    spans = rank.exported.get_finished_spans()
    assert len(spans) == 3 * len(offsets)
    for name, length in (("all_reduce", 1000), ("rank_step", 5000), ("train_step", 5000)):
        found = [span for span in spans if span.name == name]
        times = [(span.start_time or 0, span.end_time or 0) for span in found]
        assert [end - start for start, end in times] == [length] * len(offsets)
        assert times == sorted(times) and times[-1][1] - times[0][0] < 60e9
    ledger(sent=len(spans), lost=0, note="no negative duration, order kept")
