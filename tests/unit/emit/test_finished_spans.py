"""Spans made finished are what the SDK would have made; where that cannot be, the SDK makes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_netmon import semconv
from otel_netmon.capture.event import CollectiveEvent, CollectiveKind
from otel_netmon.delivery.packed import Place
from otel_netmon.emit.attribute_sets import AttributeSet
from otel_netmon.emit.spans import SpanWriter
from otel_netmon.job.groups import Group
from otel_netmon.job.roles import RankIdentity
from tests.unit.emit.a_rank import ALL_REDUCE, FLOAT32


class Own(SpanProcessor):
    """A user's processor, which wants to see spans start."""

    def __init__(self) -> None:
        self.started: list[str] = []

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self.started.append(span.name)
        span.set_attribute("own", True)


def emit(maker: SpanWriter, count: int) -> None:
    assert maker.ready()
    group = Group("0", 4, 0, "gloo")
    series = AttributeSet(group, ALL_REDUCE, True, RankIdentity(0, 0, 4))
    kind = CollectiveKind(ALL_REDUCE, group, 4000, FLOAT32, False, True, True, "sum")
    for i in range(count):
        event = CollectiveEvent(kind, 10 + i, 0, i)
        event.end, event.error = 20 + i, "RuntimeError" if i > 1 else None
        maker.emit_event(event, series, Place(5, 6, 7, event.start, event.end))


def exported(provider: TracerProvider, count: int = 3) -> list[dict[str, Any]]:
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    emit(SpanWriter(provider), count)
    spans = [json.loads(span.to_json()) for span in exporter.get_finished_spans()]
    for i, span in enumerate(spans):
        assert span["attributes"].pop(semconv.COLLECTIVE_SEQUENCE) == i
        assert (span.pop("start_time"), span.pop("end_time")) != (None, None)
    return spans


def test_they_are_alike() -> None:
    maker_made = exported(TracerProvider())
    first, second, failed = maker_made  # the first was made by the SDK itself
    assert second == first
    assert failed.pop("status") == {"status_code": "ERROR"}
    assert failed["attributes"].pop("error.type") == "RuntimeError"
    for name in (semconv.COLLECTIVE_ALGBW, semconv.COLLECTIVE_BUSBW):
        assert first["attributes"].pop(name) > 0 and name not in failed["attributes"]
    assert first.pop("status") == {"status_code": "UNSET"}
    assert failed == first
    assert first["parent_id"] == "0x0000000000000006"


def count_started(provider: TracerProvider, monkeypatch: pytest.MonkeyPatch, count: int = 4) -> int:
    maker = SpanWriter(provider)
    assert maker.ready()
    started: list[str] = []
    original: Callable[..., Any] = maker._tracer.start_span

    def start_span(name: str, **arguments: Any) -> Any:
        started.append(name)
        return original(name, **arguments)

    monkeypatch.setattr(maker._tracer, "start_span", start_span)
    emit(maker, count)
    return len(started)


def test_the_sdk_makes_only_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(InMemorySpanExporter()))
    assert count_started(provider, monkeypatch) == 1


def test_a_processor_of_the_users_sees_every_span_start(monkeypatch: pytest.MonkeyPatch) -> None:
    provider, own = TracerProvider(), Own()
    provider.add_span_processor(own)
    assert count_started(provider, monkeypatch) == 4
    assert len(own.started) == 4


def test_a_processor_that_is_added_later_is_respected() -> None:
    provider, own = TracerProvider(), Own()
    maker = SpanWriter(provider)
    emit(maker, 3)
    provider.add_span_processor(own)
    emit(maker, 2)
    assert len(own.started) == 2


@pytest.mark.parametrize("limits", [SpanLimits(max_span_attributes=2), SpanLimits(max_span_attribute_length=5)])
def test_limits_are_kept(limits: SpanLimits) -> None:
    spans = exported(TracerProvider(span_limits=limits), 3) if limits.max_span_attribute_length else []
    assert all(
        len(value) <= 5 for span in spans for value in span["attributes"].values() if isinstance(value, str)
    )
    provider = TracerProvider(span_limits=limits)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    emit(SpanWriter(provider), 3)
    if limits.max_span_attributes == 2:
        assert all(len(span.attributes or {}) == 2 for span in exporter.get_finished_spans())
