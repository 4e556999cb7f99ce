"""Spans as text are what the official encoder makes of them, and no work for the garbage collector."""

from __future__ import annotations

import gc
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.exporter.otlp.json.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace.status import Status, StatusCode

from otel_netmon.delivery.span_lines import SpanLines

RESOURCE = Resource({"service.name": "träin", "process.pid": 7})
SCOPE = InstrumentationScope("scope", "1", "https://example.org/schema")
IDS = st.integers(1, 2**64 - 1)
VALUES = st.one_of(
    st.text(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
)


def span(
    attributes: dict[str, Any], *, trace_id: int = 5, span_id: int = 6, parent: int | None = 7, **about: Any
) -> ReadableSpan:
    context = trace.SpanContext(trace_id, span_id, False, trace.TraceFlags(1))
    is_remote = about.pop("remote", True)
    above = None if parent is None else trace.SpanContext(trace_id, parent, is_remote)
    return ReadableSpan(
        about.pop("name", "all_reduce"),
        context,
        above,
        RESOURCE,
        attributes,
        instrumentation_scope=SCOPE,
        start_time=10,
        end_time=20,
        **about,
    )


@given(
    attributes=st.dictionaries(st.text(), VALUES, max_size=5),
    name=st.text(),
    ids=st.tuples(st.integers(1, 2**128 - 1), IDS, st.none() | IDS),
    remote=st.booleans(),
    failed=st.booleans(),
)
def test_they_are_what_the_official_encoder_makes(
    attributes: dict[str, Any], name: str, ids: tuple[int, int, int | None], remote: bool, failed: bool
) -> None:
    status = Status(StatusCode.ERROR if failed else StatusCode.UNSET)
    one = span(attributes, trace_id=ids[0], span_id=ids[1], parent=ids[2], name=name, remote=remote, status=status)
    text = SpanLines().line([one, one])
    assert text is not None and text.find(b"\n") == len(text) - 1
    assert json.loads(text) == json.loads(json.dumps(encode_spans([one, one]).to_dict()))


@pytest.mark.parametrize(
    "other",
    [
        span({"a": (1, 2)}),
        span({}, events=[Event("e", {"a": 1}, 3)]),
        span({}, links=[trace.Link(trace.SpanContext(1, 2, True))]),
        span({}, kind=trace.SpanKind.CLIENT),
        span({}, status=Status(StatusCode.ERROR, "said")),
        ReadableSpan("another resource", trace.SpanContext(1, 2, False), None, Resource({})),
    ],
)
def test_what_they_are_not_made_for_goes_the_official_way(other: ReadableSpan) -> None:
    lines = SpanLines()
    assert lines.line([span({"a": 1}), other]) is None
    assert lines.line([span({"a": 1})]) is not None


def test_a_batch_is_nothing_to_the_garbage_collector() -> None:
    batch = [span({f"key {i}": i for i in range(16)}) for _ in range(512)]
    lines, seen = SpanLines(), []
    lines.line(batch)
    gc.collect()
    try:
        gc.callbacks.append(lambda phase, info: seen.append(info["generation"]))
        for _ in range(20):
            lines.line(batch)
    finally:
        gc.callbacks.pop()
    assert len(seen) <= 2, "10,000 spans"
