"""The exporters behind ``otel_netmon_file``: OTLP JSON lines in one folder, for where there is no collector.

Thin over the official file exporters, which take no path from the environment. What is added: each process has
a file of its own, made when there is something to write, and again after a fork.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Sequence
from typing import IO, Any, Final, Literal, cast

from opentelemetry.exporter.otlp.json.file import FileMetricExporter, FileSpanExporter
from opentelemetry.exporter.otlp.json.file._log_exporter import FileLogExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.metrics.export import AggregationTemporality, MetricExportResult, MetricsData
from opentelemetry.sdk.metrics.view import Aggregation
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_netmon import config, threads
from otel_netmon.delivery.span_lines import SpanLines
from otel_netmon.job import roles
from otel_netmon.text import file_part

_logger = logging.getLogger(__name__)


_AT_ONCE: Final = 4
"""Spans per line that the official encoder makes: see ``span_lines``."""


class _File:
    """The little of ``IO[str]`` that the official exporters use, over a file made at the first write.

    Unbuffered, so that a fork cannot copy half a line into two processes. It never raises: a failure is logged
    once and remembered, because the exporters would log a traceback at every attempt.
    """

    def __init__(self, signal: Literal["traces", "metrics", "logs"]) -> None:
        self._signal = signal
        self._fd: int | None = None
        self._size = 0
        self._label = ""
        self._warned = False
        self._lock = threads.Lock()
        """Keeps a write and a close apart: another file may get the number."""
        self.pid = os.getpid()
        self.closed = False
        self.failed = False

    def write(self, line: str) -> int:
        try:
            with self._lock:
                if self.closed:
                    raise OSError("closed")
                label = _label()
                if self._fd is not None and label != self._label:  # its rank became known, or another one
                    os.close(self._fd)
                    self._fd, self._size = None, 0
                if self._fd is None:
                    self._fd = self._open(label)
                    self._label = label
                self._append(self._fd, line.encode())
        except OSError as error:
            self.failed = True
            if not self._warned:
                self._warned = True
                _logger.warning("otel-netmon: %s are lost, their file cannot be written: %s", self._signal, error)
        return len(line)

    def flush(self) -> None:
        """Nothing is held back."""

    def disown(self) -> None:
        """Close the copy that a fork made. Takes no lock: the thread that held it may not exist here."""
        if self._fd is not None:
            os.close(self._fd)

    def close(self) -> None:
        with self._lock:
            self.closed = True
            fd, self._fd = self._fd, None
            if fd is not None:
                os.close(fd)

    def _open(self, label: str) -> int:
        folder = config.current().output_dir
        if folder is None:
            raise OSError(f"{config.OUTPUT_DIR} is not set")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(folder / _file_name(self._signal, label), flags, 0o600)

    def _append(self, fd: int, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(fd, rest) :]
        except OSError:
            os.ftruncate(fd, self._size)  # a full disk leaves whole lines
            raise
        self._size += len(data)


def _label() -> str:
    rank = roles.own_rank()
    if rank is not None:
        return f"rank{rank.rank}"
    return "launcher" if roles.role() is roles.Role.LAUNCHER else "proc"


def _file_name(signal: str, label: str) -> str:
    host = file_part(socket.gethostname())
    return f"{signal}-{host}-{label}-{os.getpid()}-{secrets.token_hex(3)}.jsonl"


class LocalSpanExporter(FileSpanExporter):
    """Spans to ``OTEL_NETMON_OUTPUT_DIR/traces-HOST-LABEL-PID-RANDOM.jsonl``.

    LABEL is ``rank3``, ``launcher`` or ``proc``. Files are 0600, the folder, if it is made, 0700. Never raises.
    """

    def __init__(self) -> None:
        self._file = _File("traces")
        self._lines = SpanLines()
        super().__init__(stream=cast(IO[str], self._file))

    def export(self, batch: Sequence[ReadableSpan]) -> SpanExportResult:
        """Append ``batch``, as one line or some; FAILURE when it could not be written."""
        if not batch:
            return SpanExportResult.SUCCESS
        if self._file.pid != os.getpid():  # forked: a new file, and locks that nobody holds
            self._file.disown()
            LocalSpanExporter.__init__(self)
        self._file.failed = False
        text = None if self._file.closed else self._lines.line(batch)
        result = SpanExportResult.SUCCESS
        if text is not None:
            self._file.write(text + "\n")
        else:
            for first in range(0, len(batch), _AT_ONCE):
                part = super().export(batch[first : first + _AT_ONCE])
                result = part if result is SpanExportResult.SUCCESS else result
        return SpanExportResult.FAILURE if self._file.failed else result

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Close the file."""
        super().shutdown(timeout_millis, **kwargs)
        self._file.close()


class LocalLogExporter(FileLogExporter):
    """Log records to ``OTEL_NETMON_OUTPUT_DIR/logs-HOST-LABEL-PID-RANDOM.jsonl``; see ``LocalSpanExporter``."""

    def __init__(self) -> None:
        self._file = _File("logs")
        super().__init__(stream=cast(IO[str], self._file))

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Append ``batch`` as one line; FAILURE when it could not be written."""
        if not batch:
            return LogRecordExportResult.SUCCESS
        if self._file.pid != os.getpid():
            self._file.disown()
            LocalLogExporter.__init__(self)
        self._file.failed = False
        result = super().export(batch)
        return LogRecordExportResult.FAILURE if self._file.failed else result

    def shutdown(self) -> None:
        """Close the file."""
        super().shutdown()
        self._file.close()


class LocalMetricExporter(FileMetricExporter):
    """Metrics to ``OTEL_NETMON_OUTPUT_DIR/metrics-HOST-LABEL-PID-RANDOM.jsonl``; see ``LocalSpanExporter``.

    Temporality and aggregation as the official exporter has them: cumulative unless the standard variables or
    the arguments say otherwise.
    """

    def __init__(
        self,
        preferred_temporality: dict[type, AggregationTemporality] | None = None,
        preferred_aggregation: dict[type, Aggregation] | None = None,
    ) -> None:
        self._preferences = (preferred_temporality, preferred_aggregation)
        self._file = _File("metrics")
        super().__init__(
            stream=cast(IO[str], self._file),
            preferred_temporality=preferred_temporality,
            preferred_aggregation=preferred_aggregation,
        )

    def export(
        self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        """Append ``metrics_data`` as one line; FAILURE when it could not be written."""
        if not metrics_data.resource_metrics:
            return MetricExportResult.SUCCESS
        if self._file.pid != os.getpid():
            self._file.disown()
            LocalMetricExporter.__init__(self, *self._preferences)
        self._file.failed = False
        result = super().export(metrics_data, timeout_millis, **kwargs)
        return MetricExportResult.FAILURE if self._file.failed else result

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Close the file."""
        super().shutdown(timeout_millis, **kwargs)
        self._file.close()
