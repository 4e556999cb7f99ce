"""OTLP that is encoded in pieces is what the official encoders make of all at once."""

from __future__ import annotations

import time

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_netmon.delivery.in_pieces import metrics_message, spans_message


def collection() -> MetricsData:
    """Every kind of metric, with few points and with many, in two scopes."""

    def gauge(_: CallbackOptions) -> list[Observation]:
        return [Observation(number / 7, {"number": number}) for number in range(100)]

    reader = InMemoryMetricReader()
    fine = View(instrument_name="fine", aggregation=ExponentialBucketHistogramAggregation())
    provider = MeterProvider([reader], Resource({"service.name": "träin"}), views=[fine], shutdown_on_exit=False)
    one, two = provider.get_meter("one", "1"), provider.get_meter("two", "2", "https://example.org/schema")
    one.create_observable_gauge("gauge", [gauge], "By", "a description")
    one.create_counter("counter").add(3)
    for number in range(20):
        two.create_histogram("histogram", "s").record(number / 3, {"group": f"ü{number}"})
        two.create_histogram("fine").record(number / 3)
        two.create_up_down_counter("balance").add(-number, {"number": str(number)})
    data = reader.get_metrics_data()
    assert data is not None
    return data


def spans(of: tuple[str, ...]) -> list[ReadableSpan]:
    """Ten of each resource, with events and links."""
    exporter = InMemorySpanExporter()
    for name in of:
        provider = TracerProvider(resource=Resource({"service.name": name}), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        tracer = provider.get_tracer("scope", "1")
        for number in range(10):
            with tracer.start_as_current_span(f"{name} {number}", attributes={"number": number}) as span:
                span.add_event("event", {"number": number})
    return list(exporter.get_finished_spans())


def test_metrics_are_what_the_official_encoder_makes() -> None:
    data = collection()
    assert metrics_message(data) == encode_metrics(data).SerializeToString()
    assert metrics_message(MetricsData([])) == b""


@pytest.mark.parametrize("of", [("one",), ("one", "two")])
def test_spans_are_what_the_official_encoder_makes(of: tuple[str, ...]) -> None:
    made = spans(of)
    assert spans_message(made) == encode_spans(made).SerializeToString()


def test_others_get_their_turn_between_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(time, "monotonic_ns", iter(range(0, 10**12, 10**6)).__next__)  # each look is 1 ms later
    metrics_message(collection())
    assert len(slept) >= 100 / 8
    del slept[:]
    spans_message(spans(("one", "one")))
    assert len(slept) == 0  # of two resources: all at once
    spans_message(spans(("one",)))
    assert len(slept) == 2
