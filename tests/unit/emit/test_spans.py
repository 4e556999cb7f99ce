"""Spans: through which provider, with which ids, names and links."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from otel_netmon import semconv
from otel_netmon.bandwidth import bus_factor, rates
from otel_netmon.capture.operations import OPERATIONS
from otel_netmon.delivery.packed import Place
from otel_netmon.emit.spans import SpanWriter
from tests.unit.emit.a_rank import STEP, Rank, by_name, context


def test_a_provider_that_comes_late_gets_what_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    rank = Rank()
    maker = SpanWriter()
    monkeypatch.setattr(trace, "get_tracer_provider", trace.ProxyTracerProvider)
    assert not maker.ready()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(rank.exported))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    assert maker.ready()
    maker.emit("all_reduce", Place(5, 6, 7, 1, 2), {})
    (span,) = rank.exported.get_finished_spans()
    assert (context(span).trace_id, context(span).span_id) == (5, 7)


@pytest.mark.parametrize("provider", [trace.NoOpTracerProvider(), trace.ProxyTracerProvider()])
def test_no_real_provider_means_no_spans(provider: trace.TracerProvider) -> None:
    assert not SpanWriter(provider).ready()


def test_span_ids_do_not_touch_the_users_random_numbers() -> None:
    import random

    random.seed(1)
    expected = random.getstate()
    rank = Rank()
    rank.play(STEP, events=[rank.event() for _ in range(10)])
    assert random.getstate() == expected


def test_the_launchers_trace_is_a_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACEPARENT", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    rank = Rank()
    spans = by_name(rank.play(STEP, events=[rank.event()]))
    (link,) = spans["train_step"].links
    assert link.context.trace_id == 0x0AF7651916CD43DD8448EB211C80319C
    assert spans["train_step"].parent is None
    assert spans["all_reduce"].links == ()


@pytest.mark.parametrize(
    ("operation", "ranks", "expected"),
    [
        ("all_reduce", 2, 1.0),
        ("all_reduce", 8, 1.75),
        ("all_reduce", 1, None),
        ("all_gather", 4, 0.75),
        ("reduce_scatter", 4, 0.75),
        ("all_to_all", 4, 0.75),
        ("broadcast", 4, 1.0),
        ("send", 2, 1.0),
        ("barrier", 4, None),
    ],
)
def test_bus_factors_are_those_of_nccl_tests(operation: str, ranks: int, expected: float | None) -> None:
    assert bus_factor(operation, ranks) == expected


@pytest.mark.parametrize(("size", "took"), [(4, 300_001), (4000, 7001), (25 << 20, 31_000_007), (1 << 40, 999)])
def test_rates_are_whole_bytes_per_second_where_they_are_large(size: int, took: int) -> None:
    algbw, busbw = rates(size, took, 1.5)
    assert algbw == pytest.approx(size * 1e9 / took, abs=0.5 if algbw > 1e6 else 1e-6)
    assert busbw == pytest.approx(size * 1.5e9 / took, abs=0.5 if algbw > 1e6 else 1e-6)
    assert algbw < 1e6 or (algbw.is_integer() and busbw is not None and busbw.is_integer())
    assert rates(size, took, None) == (algbw, None)


def test_the_names_of_spans_are_those_of_the_operations() -> None:
    assert {operation.name for operation in OPERATIONS.values()} == set(semconv.SPAN_COLLECTIVES)
