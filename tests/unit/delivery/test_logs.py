"""Log events take the same way: the exporter of logs delivers, and what it logs itself cannot lock it up."""

from __future__ import annotations

import json
import logging
import threading
import time
from pathlib import Path

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor

from otel_netmon.delivery.local_files import LocalLogExporter
from tests.unit.delivery.refusing import refusing


def record() -> list[ReadableLogRecord]:
    kept = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]  # untyped in the SDK
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(kept))
    made = LogRecord(timestamp=1, severity_number=SeverityNumber.WARN, body="stalled", event_name="stalled")
    provider.get_logger("test").emit(made)
    return list(kept.get_finished_logs())


def test_events_are_lines_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from otel_netmon import config

    monkeypatch.setenv(config.OUTPUT_DIR, str(tmp_path))
    config.current.cache_clear()
    exporter = LocalLogExporter()
    exporter.export(record())
    exporter.shutdown()
    config.current.cache_clear()
    (file,) = tmp_path.iterdir()
    assert file.name.startswith("logs-") and file.stat().st_mode & 0o777 == 0o600
    (line,) = file.read_text().splitlines()
    assert json.loads(line)["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["eventName"] == "stalled"


def test_its_own_log_lines_may_come_back_to_it(tmp_path: Path) -> None:
    """A user's handler that exports each line of the process's log at once comes back while the lock is held."""
    queue = refusing("logs", tmp_path / "spool", 1 << 20, ExportLogsServiceRequest.FromString)
    data = encode_logs(record()).SerializeToString()
    came = threading.Event()

    class Handler(logging.Handler):
        def emit(self, _: logging.LogRecord) -> None:
            queue.put(data, 1)
            came.set()

    logger, handler = logging.getLogger("otel_netmon.delivery"), Handler()
    logger.addHandler(handler)
    try:
        queue.put(data, 1)
        assert came.wait(10)  # "cannot be exported to …"
        since = time.monotonic()
        queue.close(1)
        assert time.monotonic() - since < 5
    finally:
        logger.removeHandler(handler)
    assert list((tmp_path / "spool").glob("logs-*.spool"))
