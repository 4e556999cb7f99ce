"""A batch of spans as a line of OTLP JSON, span by span and as text.

The official encoder makes some seventy objects of a span. Those of a batch, alive together, make Python's garbage
collector stop the training to look for cycles among them; and text is made in a fifth of the time. What text is
not made for here (events, links, values that are not plain) goes the official way, as do resource and scope.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Sequence
from typing import Any, Final

from opentelemetry.exporter.otlp.json.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

_REMOTE: Final = 0x100 | 0x200
_LOCAL: Final = 0x100
"""Flags of a span: its parent is remote, or is not."""
_SPANS: Final = "@spans"


_AT_ONCE: Final = 4
"""Spans per line that the official encoder makes."""


class SpanLines:
    """Makes the lines of one exporter."""

    def __init__(self) -> None:
        self._around: tuple[Any, Any, str, str] = None, None, "", ""
        """Resource and scope of the last batch, and what they are as text, before and after the spans."""

    def encode(self, batch: Sequence[ReadableSpan]) -> bytes:
        """``batch`` as whole lines."""
        line = self.line(batch)
        if line is not None:
            return f"{line}\n".encode()
        parts = (batch[first : first + _AT_ONCE] for first in range(0, len(batch), _AT_ONCE))
        return b"".join(json_line(encode_spans(part)) for part in parts)

    def line(self, batch: Sequence[ReadableSpan]) -> str | None:
        """``batch`` as one line, without its end; ``None`` where it has to go the official way."""
        resource, scope = batch[0].resource, batch[0].instrumentation_scope
        spans = []
        for one in batch:
            text = span_text(one)
            if text is None or one.resource is not resource or one.instrumentation_scope is not scope:
                return None
            spans.append(text)
        around = self._around
        if around[0] is not resource or around[1] is not scope:
            encoded = encode_spans(batch[:1]).to_dict()
            encoded["resourceSpans"][0]["scopeSpans"][0]["spans"] = _SPANS
            head, _, tail = _text(encoded).partition(_text(_SPANS))
            around = self._around = (resource, scope, head, tail)
        head, tail = around[2:]
        return f"{head}[{','.join(spans)}]{tail}"


def json_line(request: Any) -> bytes:
    """A request of the official encoder's as a line."""
    return f"{_text(request.to_dict())}\n".encode()


def span_text(span: ReadableSpan) -> str | None:
    """One span; ``None`` where it is none of those that are made here."""
    context, parent, attributes = span.context, span.parent, span.attributes
    plain = span.kind is SpanKind.INTERNAL and not span.events and not span.links and context is not None
    if not plain or not span.name or context.trace_state or span.dropped_attributes or span.status.description:
        return None
    pairs = []
    for key, value in (attributes or {}).items():
        text = _value(value)
        if text is None or not key:
            return None
        pairs.append(f'{{"key":{_key(key)},"value":{text}}}')
    flags = _REMOTE if parent is not None and parent.is_remote else _LOCAL
    status = '"status":{"code":2}' if span.status.status_code is StatusCode.ERROR else '"status":{}'
    return (
        f'{{"traceId":"{context.trace_id:032x}","spanId":"{context.span_id:016x}",'
        + ("" if parent is None else f'"parentSpanId":"{parent.span_id:016x}",')
        + f'"flags":{flags},"name":{_key(span.name)},"kind":1,"startTimeUnixNano":"{span.start_time}",'
        f'"endTimeUnixNano":"{span.end_time}",'
        + (f'"attributes":[{",".join(pairs)}],' if pairs else "")
        + f"{status}}}"
    )


def _value(value: Any) -> str | None:
    kind = type(value)
    if kind is str and value:
        return f'{{"stringValue":{_text(value)}}}'
    if kind is bool:
        return '{"boolValue":true}' if value else '{"boolValue":false}'
    if kind is int:
        return f'{{"intValue":"{value}"}}'
    if kind is float and math.isfinite(value):
        return f'{{"doubleValue":{value!r}}}'
    return None


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


@functools.lru_cache(maxsize=256)
def _key(value: str) -> str:
    return json.dumps(value)
