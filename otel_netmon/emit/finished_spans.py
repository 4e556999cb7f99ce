"""Spans made as what they are: finished. The SDK's way of starting and ending one costs three times as much.

A ``ReadableSpan`` goes straight to the processors' ``on_end``. That is right where every processor is one of the
SDK's own, which do nothing when a span starts; any other, and limits on attributes, take the SDK's own way.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace.status import Status, StatusCode

from otel_netmon import schema
from otel_netmon.emit.attributes import collective
from otel_netmon.emit.packed_spans import PackedSpanWriter
from otel_netmon.internals.otel_internals_spans import FinishedSpan, can_be_finished, span_limits, span_processors

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.delivery.packed import Place
    from otel_netmon.emit.metrics import AttributeSet

_SAMPLED: Final = trace.TraceFlags(trace.TraceFlags.SAMPLED)
_OK: Final = Status(StatusCode.UNSET)
_ERROR: Final = Status(StatusCode.ERROR)
_MOST_ATTRIBUTES: Final = 64
"""More than any span of ours has."""


class FastSpanWriter:
    """Makes spans like ``like``, a span that the SDK made for the same provider. Used by one thread."""

    def __init__(self, provider: Any, like: ReadableSpan, limits: SpanLimits) -> None:
        self._provider = provider
        self._limits = limits
        self.resource = like.resource
        self.scope = like.instrumentation_scope
        self.kind = like.kind
        self.flags = _SAMPLED if like.context is None else like.context.trace_flags
        self._processors: tuple[SpanProcessor, ...] = ()
        self._fit = False
        self.packs: PackedSpanWriter | None = None
        """Where the processors, of which ``fit`` says that they are, lead to exporters that take packed spans."""
        self._parent: trace.SpanContext | None = None

    def parent(self, trace_id: int, span_id: int) -> trace.SpanContext:
        """The sampled, remote span with these ids; many in a row have the same."""
        last = self._parent
        if last is None or last.span_id != span_id or last.trace_id != trace_id:
            last = self._parent = trace.SpanContext(trace_id, span_id, True, _SAMPLED)
        return last

    @classmethod
    def of(cls, provider: Any, span: Any) -> FastSpanWriter | None:
        """For ``provider``, whose tracer just made ``span``; ``None`` where the SDK's own way has to be taken."""
        limits = span_limits(provider)
        if not isinstance(span, ReadableSpan) or not span.context or limits is None or not _is_roomy(limits):
            return None
        made = cls(provider, span, limits)
        return made if made.fit() and can_be_finished(made.resource) else None

    def fit(self) -> bool:
        """Whether all processors are such that nothing is missed. They may change: ask each time."""
        processors = span_processors(self._provider)
        if processors is None:
            return False
        if processors is not self._processors:
            self.flush()
            self._processors = processors
            self._fit = all(type(each) in (BatchSpanProcessor, SimpleSpanProcessor) for each in processors)
            self.packs = None
            if self._fit:
                self.packs = PackedSpanWriter.of(processors, self.resource, self.scope, self._limits)
        return self._fit

    def flush(self) -> None:
        """Hand over the spans that were packed."""
        if self.packs is not None:
            self.packs.flush()

    def export(self) -> None:
        """Have them exported, where that costs next to nothing."""
        if self.packs is not None:
            self.packs.export()

    def emit(self, event: CollectiveEvent, series: AttributeSet, place: Place) -> None:
        """Hand a finished span to the processors."""
        span = EventSpan(self, event, series, place)
        for processor in self._processors:
            processor.on_end(span)


class EventSpan(FinishedSpan):
    """The span of a collective, made of its event when it is looked at.

    From then until it is exported it is one object, where it would be four. Those of half a second, alive
    together, are what Python's garbage collector looks at, and stops the training for.
    """

    start_time = end_time = 0

    def __init__(self, of: FastSpanWriter, event: CollectiveEvent, series: AttributeSet, place: Place) -> None:
        self._of = of
        self._event = event
        self._series = series
        self._trace_id, self._parent_id, span_id, self.start_time, self.end_time = place
        self._span_id = span_id or secrets.randbits(64) or 1

    @property
    def name(self) -> str:
        return self._series.operation

    @property
    def context(self) -> trace.SpanContext:
        return trace.SpanContext(self._trace_id, self._span_id, False, self._of.flags)

    @property
    def parent(self) -> trace.SpanContext | None:
        return None if self._parent_id is None else self._of.parent(self._trace_id, self._parent_id)

    @property
    def attributes(self) -> dict[str, Any]:
        return schema.attributes(collective(self._event, self._series))

    @property
    def status(self) -> Status:
        return _OK if self._event.error is None else _ERROR

    @property
    def resource(self) -> Resource:
        return self._of.resource

    @property
    def kind(self) -> trace.SpanKind:
        return self._of.kind

    @property
    def instrumentation_scope(self) -> InstrumentationScope | None:
        return self._of.scope


def _is_roomy(limits: SpanLimits) -> bool:
    if limits.max_span_attribute_length is not None or limits.max_attribute_length is not None:
        return False
    most = (limits.max_span_attributes, limits.max_attributes, limits.max_event_attributes)
    return all(each is None or each >= _MOST_ATTRIBUTES for each in most)
