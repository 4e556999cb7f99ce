"""A batch of the SDK's spans as a line of OTLP JSON, span by span and as text; see ``otlp_json``.

What text is not made for here (events, links, values that are not plain) goes the official way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from opentelemetry.exporter.otlp.json.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from otel_netmon.delivery.otlp_json import LOCAL, REMOTE, Json, listed_attributes
from otel_netmon.delivery.packed import Place
from otel_netmon.text import as_json
from otel_netmon.threads import Pace

_AT_ONCE: Final = 4
"""Spans per line that the official encoder makes."""


class SpanLines:
    """Makes the lines of one exporter."""

    def __init__(self) -> None:
        self.format = Json()

    def encode(self, batch: Sequence[ReadableSpan]) -> bytes:
        """``batch`` as whole lines."""
        line = self.line(batch)
        if line is not None:
            return line
        return b"".join(json_line(encode_spans(part)) for part in Pace().pieces(batch, _AT_ONCE))

    def line(self, batch: Sequence[ReadableSpan]) -> bytes | None:
        """``batch`` as one line; ``None`` where it has to go the official way."""
        resource, scope = batch[0].resource, batch[0].instrumentation_scope
        spans = []
        for some in Pace().pieces(batch, 2 * _AT_ONCE):
            for one in some:
                found = self._text(one)
                if found is None or one.resource is not resource or one.instrumentation_scope is not scope:
                    return None
                spans.append(found.encode())
        return self.format.request(resource, scope, spans)

    def _text(self, span: ReadableSpan) -> str | None:
        """One span; ``None`` where it is none of those that are made here."""
        context, parent = span.context, span.parent
        plain = span.kind is SpanKind.INTERNAL and not span.events and not span.links and context is not None
        if not plain or context.trace_state or span.dropped_attributes or span.status.description:
            return None
        attributes: Any = span.attributes or {}
        inside = listed_attributes(attributes)
        if inside is None or not span.start_time or not span.end_time:
            return None
        above = None if parent is None else parent.span_id
        place = Place(context.trace_id, above, context.span_id, span.start_time, span.end_time)
        flags = REMOTE if parent is not None and parent.is_remote else LOCAL
        error = span.status.status_code is StatusCode.ERROR
        return self.format.whole(span.name, place, flags, inside, error=error)


def json_line(request: Any) -> bytes:
    """A request of the official encoder's as a line."""
    return f"{as_json(request.to_dict())}\n".encode()
