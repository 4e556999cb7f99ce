"""Log events through the global logger provider: what has to be told while there is no span for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from otel_netmon import semconv
from otel_netmon.internals.otel_internals_logs import emit_event, is_stand_in, logger_provider
from otel_netmon.version import __version__

if TYPE_CHECKING:
    from otel_netmon.records import Value


class LogEvents:
    """Emits events through whichever provider is global at the time. Used by one thread."""

    def __init__(self) -> None:
        self._provider: Any = None
        self._logger: Any = None

    def ready(self) -> bool:
        """Whether anybody takes log events; looked up afresh, since a provider may be set late."""
        provider = logger_provider()
        if provider is not self._provider:
            self._provider, self._logger = provider, None
            if not is_stand_in(provider):
                self._logger = provider.get_logger(
                    semconv.SCOPE_COLLECTIVES, __version__, schema_url=semconv.SCHEMA_URL
                )
        return self._logger is not None

    def emit(
        self,
        name: str,
        body: str,
        attributes: dict[str, Value],
        *,
        time: int,
        ids: tuple[int, int] | None = None,
        sampled: bool = False,
        severity: str = "INFO",
    ) -> None:
        """Emit one, if anybody takes it. ``time`` is in nanoseconds since the epoch; with the ``ids`` of a trace
        and a span it belongs to that span, which exists if ``sampled``."""
        if not self.ready():
            return
        more: dict[str, Any] = {}
        if ids is not None:
            flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
            span = NonRecordingSpan(SpanContext(*ids, is_remote=False, trace_flags=flags))
            more["context"] = set_span_in_context(span)
        emit_event(
            self._logger, severity, timestamp=time, body=body, attributes=attributes, event_name=name, **more
        )
