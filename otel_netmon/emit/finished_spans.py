"""Spans made as what they are: finished. The SDK's way of starting and ending one costs three times as much.

A ``ReadableSpan`` goes straight to the processors' ``on_end``. That is right where every processor is one of the
SDK's own, which do nothing when a span starts; any other, and limits on attributes, take the SDK's own way. The
processors of a provider are found below its public surface.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.trace.status import Status, StatusCode

from otel_netmon import schema
from otel_netmon.emit.attributes import collective

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.emit.metrics import AttributeSet

_SAMPLED: Final = trace.TraceFlags(trace.TraceFlags.SAMPLED)
_OK: Final = Status(StatusCode.UNSET)
_ERROR: Final = Status(StatusCode.ERROR)
_PARTS: Final = frozenset(
    f"_{name}"
    for name in (
        *("name", "context", "kind", "instrumentation_info", "instrumentation_scope", "parent", "start_time"),
        *("end_time", "attributes", "events", "links", "resource", "status"),
    )
)
"""What an SDK's span is made of, and ``EventSpan`` gives."""
_MOST_ATTRIBUTES: Final = 64
"""More than any span of ours has."""


class FastSpanWriter:
    """Makes spans like ``like``, a span that the SDK made for the same provider. Used by one thread."""

    def __init__(self, provider: Any, like: ReadableSpan) -> None:
        self._provider = provider
        self.resource = like.resource
        self.scope = like.instrumentation_scope
        self.kind = like.kind
        self.flags = _SAMPLED if like.context is None else like.context.trace_flags
        self._processors: tuple[Any, ...] | None = None
        self._fit = False
        self._parent: trace.SpanContext | None = None

    def parent(self, trace_id: int, span_id: int) -> trace.SpanContext:
        """The sampled, remote span with these ids; many in a row have the same."""
        known = self._parent
        if known is None or known.span_id != span_id or known.trace_id != trace_id:
            known = self._parent = trace.SpanContext(trace_id, span_id, True, _SAMPLED)
        return known

    @classmethod
    def of(cls, provider: Any, span: Any) -> FastSpanWriter | None:
        """For ``provider``, whose tracer just made ``span``; ``None`` where the SDK's own way has to be taken."""
        limits = getattr(provider, "_span_limits", None)
        if not isinstance(span, ReadableSpan) or not span.context or not _roomy(limits):
            return None
        made = cls(provider, span)
        return made if made.fit() and made.can_make() else None

    def can_make(self) -> bool:
        """Whether this SDK's spans are made as it is thought here."""
        return set(vars(ReadableSpan("probe", resource=self.resource))) <= _PARTS

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

    def emit(self, event: CollectiveEvent, series: AttributeSet, place: Place) -> None:
        """Hand a finished span to the processors."""
        span = EventSpan(self, event, series, place)
        for processor in self._processors or ():
            processor.on_end(span)


class Place(NamedTuple):
    """Where a span stands: ids, and nanoseconds since the epoch. ``span_id`` 0 is a random one."""

    trace_id: int
    parent_id: int | None
    span_id: int
    start: int
    end: int


class EventSpan(ReadableSpan):
    """The span of a collective, made of its event when it is looked at.

    From then until it is exported it is one object, where it would be four. Those of half a second, alive
    together, are what Python's garbage collector looks at, and stops the training for.
    """

    _events = ()
    _links = ()
    _instrumentation_info = None

    def __init__(self, of: FastSpanWriter, event: CollectiveEvent, series: AttributeSet, place: Place) -> None:
        self._of = of
        self._event = event
        self._series = series
        self._trace_id, self._parent_id, span_id, self._start_time, self._end_time = place
        self._span_id = span_id or secrets.randbits(64) or 1

    @property
    def _name(self) -> str:  # type: ignore[override]  # the base's are attributes of each object
        return self._series.operation

    @property
    def _context(self) -> trace.SpanContext:  # type: ignore[override]
        return trace.SpanContext(self._trace_id, self._span_id, False, self._of.flags)

    @property
    def _parent(self) -> trace.SpanContext | None:  # type: ignore[override]
        return None if self._parent_id is None else self._of.parent(self._trace_id, self._parent_id)

    @property
    def _attributes(self) -> dict[str, Any]:  # type: ignore[override]
        return schema.attributes(collective(self._event, self._series))

    @property
    def _status(self) -> Status:  # type: ignore[override]
        return _OK if self._event.error is None else _ERROR

    @property
    def _resource(self) -> Any:  # type: ignore[override]
        return self._of.resource

    @property
    def _kind(self) -> trace.SpanKind:  # type: ignore[override]
        return self._of.kind

    @property
    def _instrumentation_scope(self) -> Any:  # type: ignore[override]
        return self._of.scope


def _roomy(limits: Any) -> bool:
    return (
        isinstance(limits, SpanLimits)
        and all(
            limit is None or limit >= _MOST_ATTRIBUTES
            for limit in (getattr(limits, "max_span_attributes", 0), getattr(limits, "max_attributes", 0))
        )
        and getattr(limits, "max_span_attribute_length", 0) is None
    )
