"""OpenTelemetry's signal of logs, whose modules are underscored until it is stable.

All of them are there from 1.45 on. Without them no log event is exported; spans and metrics are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_netmon.internals.otel_internals import find

__all__ = ["LogRecordExportResult", "LogRecordExporter", "ReadableLogRecord"]

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
else:
    try:
        from opentelemetry.sdk._logs import ReadableLogRecord
        from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
    except ImportError:  # then nobody asks for the exporters of logs, which stand on these
        ReadableLogRecord = LogRecordExporter = LogRecordExportResult = object


def encode_logs(batch: Any) -> Any:
    """A batch as an OTLP request. Raises LookupError where the encoder is not there."""
    return find("opentelemetry.exporter.otlp.proto.common._log_encoder", "encode_logs")(batch)


def encode_logs_as_json(batch: Any) -> Any:
    """The same for OTLP JSON: has ``to_dict``."""
    return find("opentelemetry.exporter.otlp.json.common._log_encoder", "encode_logs")(batch)


def logger_provider() -> Any:
    """The global provider of loggers; ``None`` where there is none to be found."""
    try:
        return find("opentelemetry._logs", "get_logger_provider")()
    except LookupError:
        return None


def is_stand_in(provider: Any) -> bool:
    """Whether nobody takes log events: it is the API's own, in place of one that was not set."""
    return provider is None or type(provider).__module__.startswith("opentelemetry._logs")


def emit_event(logger: Any, severity: str, **about: Any) -> None:
    """Emit a log event: ``about`` is what ``LogRecord`` takes. Nothing where the API is not there."""
    try:
        record, severities = (find("opentelemetry._logs", name) for name in ("LogRecord", "SeverityNumber"))
    except LookupError:
        return
    logger.emit(record(severity_number=getattr(severities, severity), severity_text=severity, **about))
