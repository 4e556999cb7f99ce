"""What the official encoders make of spans, and a sink that reads what it is given with their classes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from opentelemetry import trace
from opentelemetry.exporter.otlp.json.common.trace_encoder import encode_spans as encode_as_json
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace.status import Status, StatusCode

from otel_netmon.delivery.packed import Place

RESOURCE = Resource({"service.name": "träin", "process.pid": 7}, "https://example.org/of-the-resource")
SCOPE = InstrumentationScope("scope", "1", "https://example.org/of-the-scope")


def finished(name: str, place: Place, attributes: Any, *, error: bool = False, **more: Any) -> ReadableSpan:
    """A span as the SDK hands it to an exporter, below a remote one."""
    context = trace.SpanContext(place.trace_id, place.span_id, False, trace.TraceFlags(1))
    parent = None if place.parent_id is None else trace.SpanContext(place.trace_id, place.parent_id, True)
    return ReadableSpan(
        name,
        context,
        parent,
        RESOURCE,
        attributes,
        instrumentation_scope=SCOPE,
        status=Status(StatusCode.ERROR if error else StatusCode.UNSET),
        start_time=place.start,
        end_time=place.end,
        **more,
    )


def as_protobuf(spans: Sequence[ReadableSpan]) -> bytes:
    return bytes(encode_spans(spans).SerializeToString())


def as_json(spans: Sequence[ReadableSpan]) -> Any:
    return json.loads(json.dumps(encode_as_json(spans).to_dict()))


class Kept:
    """A sink that keeps what it is given, in either format; it says that it takes it, or that it does not."""

    def __init__(self, *, takes: bool = True) -> None:
        self.takes = takes
        self.requests: list[Any] = []
        self.items: list[int] = []

    def put(self, data: bytes, items: int) -> bool:
        request = json.loads(data) if data[:1] == b"{" else ExportTraceServiceRequest.FromString(data)
        self.requests.append(request)
        self.items.append(items)
        return self.takes

    @property
    def spans(self) -> list[Any]:
        return [
            span
            for request in self.requests
            for each in (request["resourceSpans"] if isinstance(request, dict) else request.resource_spans)
            for scope in (each["scopeSpans"] if isinstance(each, dict) else each.scope_spans)
            for span in (scope["spans"] if isinstance(scope, dict) else scope.spans)
        ]

    def flush(self, timeout: float) -> bool:
        return True

    def close(self, timeout: float) -> None: ...
