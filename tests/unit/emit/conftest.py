"""Where log events go."""

from __future__ import annotations

import pytest
from opentelemetry import _logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from otel_netmon.job import peers


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> InMemoryLogRecordExporter:
    """Where log events go, through a provider that is there for one test."""
    exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # untyped in the SDK
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    monkeypatch.setattr(_logs, "get_logger_provider", lambda: provider)
    peers.readings.until(1 << 62)
    return exporter
