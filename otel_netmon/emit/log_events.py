"""Log events through the global logger provider: what has to be told while there is no span for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from opentelemetry import _logs as logs
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from otel_netmon import semconv
from otel_netmon.version import __version__

if TYPE_CHECKING:
    from otel_netmon.records import Value

_SEVERITIES: Final = {"INFO": logs.SeverityNumber.INFO, "WARN": logs.SeverityNumber.WARN}


class LogEvents:
    """Emits events through whichever provider is global at the time. Used by one thread."""

    def __init__(self) -> None:
        self._provider: logs.LoggerProvider | None = None
        self._logger: logs.Logger | None = None

    def ready(self) -> bool:
        """Whether anybody takes log events; looked up afresh, since a provider may be set late."""
        provider = logs.get_logger_provider()
        if provider is not self._provider:
            self._provider, self._logger = provider, None
            if not type(provider).__module__.startswith(logs.__name__):  # the API's own are stand-ins
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
        trace_id: int = 0,
        span_id: int = 0,
        sampled: bool = False,
        severity: str = "INFO",
    ) -> None:
        """Emit one, if anybody takes it. ``time`` is in nanoseconds since the epoch; with the ids of a span it
        belongs to that, which exists if ``sampled``."""
        if not self.ready() or self._logger is None:
            return
        more: dict[str, Any] = {}
        if trace_id:
            flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
            span = NonRecordingSpan(SpanContext(trace_id, span_id, is_remote=False, trace_flags=flags))
            more["context"] = set_span_in_context(span)
        self._logger.emit(
            logs.LogRecord(
                timestamp=time,
                severity_number=_SEVERITIES[severity],
                severity_text=severity,
                body=body,
                attributes=attributes,
                event_name=name,
                **more,
            )
        )
