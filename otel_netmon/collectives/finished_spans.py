"""Spans made as what they are: finished. The SDK's way of starting and ending one costs three times as much.

A ``ReadableSpan`` goes straight to the processors' ``on_end``. That is right where every processor is one of the
SDK's own, which do nothing when a span starts; any other, and limits on attributes, take the SDK's own way. The
processors of a provider are found below its public surface.
"""

from __future__ import annotations

import secrets
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.trace.status import Status, StatusCode

_SAMPLED: Final = trace.TraceFlags(trace.TraceFlags.SAMPLED)
_OK: Final = Status(StatusCode.UNSET)
_ERROR: Final = Status(StatusCode.ERROR)
_MOST_ATTRIBUTES: Final = 64
"""More than any span of ours has."""


class FinishedSpans:
    """Makes spans like ``like``, a span that the SDK made for the same provider. Used by one thread."""

    def __init__(self, provider: Any, like: ReadableSpan) -> None:
        self._provider = provider
        self._resource = like.resource
        self._scope = like.instrumentation_scope
        self._kind = like.kind
        self._flags = _SAMPLED if like.context is None else like.context.trace_flags
        self._processors: tuple[Any, ...] | None = None
        self._fit = False
        self._parent: trace.SpanContext | None = None

    @classmethod
    def of(cls, provider: Any, span: Any) -> FinishedSpans | None:
        """For ``provider``, whose tracer just made ``span``; ``None`` where the SDK's own way has to be taken."""
        limits = getattr(provider, "_span_limits", None)
        if not isinstance(span, ReadableSpan) or not span.context or not _roomy(limits):
            return None
        made = cls(provider, span)
        return made if made.fit() and made.can_make() else None

    def can_make(self) -> bool:
        """Whether this SDK's spans are made as it is thought here."""
        try:
            span = self._span("name", 1, None, 2, 3, 4, {"key": 5}, False)
            return (span.name, span.start_time, span.end_time) == ("name", 3, 4) and (
                dict(span.attributes or {}) == {"key": 5} and span.get_span_context() == span.context
            )
        except Exception:  # noqa: BLE001 - another version of it
            return False

    def fit(self) -> bool:
        """Whether all processors are such that nothing is missed. They may change: ask each time."""
        try:
            processors = self._provider._active_span_processor._span_processors
        except AttributeError:
            return False
        if processors is not self._processors:
            self._processors = processors
            self._fit = all(type(each) in (BatchSpanProcessor, SimpleSpanProcessor) for each in processors)
        return self._fit

    def emit(  # noqa: PLR0917 - by position: this runs for every collective
        self,
        name: str,
        trace_id: int,
        parent_id: int | None,
        span_id: int,
        start: int,
        end: int,
        attributes: dict[str, Any],
        error: bool,
    ) -> None:
        """Hand a finished span to the processors."""
        span = self._span(name, trace_id, parent_id, span_id, start, end, attributes, error)
        for processor in self._processors or ():
            processor.on_end(span)

    def _span(  # noqa: PLR0917 - as above
        self,
        name: str,
        trace_id: int,
        parent_id: int | None,
        span_id: int,
        start: int,
        end: int,
        attributes: dict[str, Any],
        error: bool,
    ) -> ReadableSpan:
        parent = None
        if parent_id is not None:
            parent = self._parent
            if parent is None or parent.span_id != parent_id or parent.trace_id != trace_id:
                parent = self._parent = trace.SpanContext(trace_id, parent_id, True, _SAMPLED)
        return ReadableSpan(
            name,
            trace.SpanContext(trace_id, span_id or secrets.randbits(64) or 1, False, self._flags),
            parent,
            self._resource,
            attributes,
            (),
            (),
            self._kind,
            None,
            _ERROR if error else _OK,
            start,
            end,
            self._scope,
        )


def _roomy(limits: Any) -> bool:
    return (
        isinstance(limits, SpanLimits)
        and all(
            limit is None or limit >= _MOST_ATTRIBUTES
            for limit in (getattr(limits, "max_span_attributes", 0), getattr(limits, "max_attributes", 0))
        )
        and getattr(limits, "max_span_attribute_length", 0) is None
    )
