"""What is private of the SDK's spans and their provider; see ``otel_internals``."""

from __future__ import annotations

from typing import Any, cast

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, SpanProcessor


def span_processors(provider: Any) -> tuple[SpanProcessor, ...] | None:
    """The processors of a TracerProvider: the same object until one is added. ``None``, and each span is started
    and ended by the SDK, which takes three times as long, where they cannot be found."""
    return getattr(getattr(provider, "_active_span_processor", None), "_span_processors", None)


def span_limits(provider: Any) -> SpanLimits | None:
    """The limits of a TracerProvider; ``None``, with the same loss, where they cannot be found."""
    limits = getattr(provider, "_span_limits", None)
    return limits if isinstance(limits, SpanLimits) else None


def batch_size(processor: Any) -> int:
    """Spans in a request of a processor of the SDK's; the SDK's default where it cannot be found, or there is
    none, as in a ``SimpleSpanProcessor``."""
    found = getattr(getattr(processor, "_batch_processor", None), "_max_export_batch_size", None)
    return found if isinstance(found, int) and found > 0 else 512


class FinishedSpan(ReadableSpan):
    """A span whose parts are computed when they are read: a subclass overrides ``ReadableSpan``'s properties.

    That keeps the parts in private attributes of the same names, which its other methods (``to_json``,
    ``get_span_context``) read: these lead back to the properties. A part that is not overridden never ends.
    Not to be made where ``can_be_finished`` says no.
    """

    _events = ()
    _links = ()
    _instrumentation_info = None
    _name: str = cast(str, property(lambda self: self.name))
    _context = property(lambda self: self.context)
    _kind = property(lambda self: self.kind)
    _parent = property(lambda self: self.parent)
    _start_time = property(lambda self: self.start_time)
    _end_time = property(lambda self: self.end_time)
    _attributes = property(lambda self: self.attributes)
    _resource = property(lambda self: self.resource)
    _status = property(lambda self: self.status)
    _instrumentation_scope = property(lambda self: self.instrumentation_scope)

    def __init__(self) -> None:
        """Without the SDK's, which would set them."""


def can_be_finished(resource: Resource) -> bool:
    """Whether ``FinishedSpan`` has every part of this SDK's spans. If not, the SDK makes them, at its price."""
    return set(vars(ReadableSpan("probe", resource=resource))) <= set(vars(FinishedSpan))
