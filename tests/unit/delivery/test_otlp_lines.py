"""OTLP JSON to the protobuf that it stands for."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_netmon.delivery.otlp_lines import NotOtlp, messages

TRACE, SPAN, OTHER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"


def test_ids_are_hexadecimal_wherever_they_stand() -> None:
    span = {
        "traceId": TRACE,
        "spanId": SPAN,
        "parentSpanId": OTHER,
        "name": "x",
        "startTimeUnixNano": "5",
        "links": [{"traceId": TRACE, "spanId": OTHER}],
        "fieldOfLater": 1,
    }
    (message,) = messages(json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode())
    found = ExportTraceServiceRequest.FromString(message.data).resource_spans[0].scope_spans[0].spans[0]
    assert (message.signal, message.items, found.start_time_unix_nano) == ("traces", 1, 5)
    assert (found.trace_id.hex(), found.span_id.hex(), found.parent_span_id.hex()) == (TRACE, SPAN, OTHER)
    assert (found.links[0].trace_id.hex(), found.links[0].span_id.hex()) == (TRACE, OTHER)


def test_of_metrics_the_points_are_counted() -> None:
    exemplar = {"traceId": TRACE, "spanId": SPAN, "asInt": "3"}
    points: list[Any] = [{"asDouble": "NaN", "exemplars": [exemplar]}, {"asInt": "7"}]
    metrics = [{"name": "a", "gauge": {"dataPoints": points}}, {"name": "b", "sum": {"dataPoints": points[1:]}}]
    (message,) = messages(json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}).encode())
    found = ExportMetricsServiceRequest.FromString(message.data).resource_metrics[0].scope_metrics[0].metrics
    assert (message.signal, message.items) == ("metrics", 3)
    assert found[0].gauge.data_points[0].exemplars[0].span_id.hex() == SPAN


def test_messages_behind_one_another_are_one_request() -> None:
    lines = [json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [{"name": name}]}]}]}) for name in "ab"]
    data = b"".join(message.data for line in lines for message in messages(line.encode()))
    found = ExportTraceServiceRequest.FromString(data)
    assert [group.scope_spans[0].spans[0].name for group in found.resource_spans] == ["a", "b"]


@pytest.mark.parametrize("line", [b"", b"[]", b"{}", b"\xff", b'{"resourceSpans": 3}', b'{"resourceLogs": [[]]}'])
def test_what_is_none_is_told(line: bytes) -> None:
    with pytest.raises(NotOtlp):
        messages(line)


_words = ("resourceSpans", "scopeSpans", "spans", "traceId", "links", "attributes", "metrics", "sum")
_keys = st.sampled_from(_words)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(_keys, inside, max_size=3),
)


@settings(deadline=None)  # the first message is slow, and machines are busy
@given(st.dictionaries(st.sampled_from(["resourceSpans", "resourceMetrics", "resourceLogs"]), _json))
def test_nothing_else_is_raised_whatever_it_holds(said: dict[str, Any]) -> None:
    with contextlib.suppress(NotOtlp):
        messages(json.dumps(said).encode())
