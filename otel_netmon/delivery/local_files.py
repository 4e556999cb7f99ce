"""The exporters behind ``otel_netmon_file``: OTLP JSON lines in one folder, for where there is no collector.

Each process has a file of its own, made when there is something to write, and again after a fork.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
from typing import Any

from otel_netmon import config, forks, threads
from otel_netmon.delivery.base import LogsTo, MetricsTo, SpansTo
from otel_netmon.delivery.metric_lines import MetricLines
from otel_netmon.delivery.segment import write_whole
from otel_netmon.delivery.span_lines import SpanLines, json_line
from otel_netmon.internals.otel_internals_logs import encode_logs_as_json
from otel_netmon.job import roles
from otel_netmon.sdk.values import Signal
from otel_netmon.text import file_part

_logger = logging.getLogger(__name__)


class JsonFile:
    """``OTEL_NETMON_OUTPUT_DIR/SIGNAL-HOST-LABEL-PID-RANDOM.jsonl``. LABEL is ``rank3``, ``launcher`` or ``proc``.

    0600, the folder, if it is made, 0700. Unbuffered, so that a fork cannot copy half a line into two
    processes. It never raises: the first failure is logged.
    """

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        self._fd: int | None = None
        self._size = 0
        self._label = ""
        self._warned = False
        self._closed = False
        self._lock = threads.Lock()
        """Keeps a write and a close apart: another file may get the number."""
        forks.register(self)

    def put(self, data: bytes, items: int) -> bool:  # noqa: ARG002  # a queue counts them
        """Append whole lines; False when they are lost."""
        try:
            with self._lock:
                write_whole(self._open(), data, self._size)  # a full disk leaves whole lines
                self._size += len(data)
        except OSError as error:
            if not self._warned:
                self._warned = True
                _logger.warning(
                    "otel-netmon: %s are lost: their file cannot be written (%s); logged once. "
                    "Set %s to a folder of your own with room for them",
                    self._signal, error, config.OUTPUT_DIR,
                )  # fmt: skip
            return False
        return True

    def flush(self, timeout: float) -> bool:  # noqa: ARG002 - as a queue's
        """Nothing is held back."""
        return True

    def close(self, timeout: float) -> None:  # noqa: ARG002 - as a queue's
        """What comes after is lost."""
        with self._lock:
            self._closed = True
            self._close()

    def after_fork_in_child(self) -> None:
        """The file is the parent's; a new one is made when there is something to write."""
        self._lock = threads.Lock()
        self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _open(self) -> int:
        if self._closed:
            raise OSError("it is closed")
        label = process_label()
        if label != self._label:  # its rank became known, or another one
            self._close()
        if self._fd is None:
            folder = config.current().output_dir
            if folder is None:
                raise OSError(f"{config.OUTPUT_DIR} is not set")
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = os.open(folder / f"{file_name(self._signal, label)}.jsonl", flags, 0o600)
            self._size, self._label = 0, label
        return self._fd


def file_name(signal: Signal, label: str) -> str:
    """Of a file of this process, another one each time; without its suffix."""
    return f"{signal}-{file_part(socket.gethostname())}-{label}-{os.getpid()}-{secrets.token_hex(3)}"


def process_label() -> str:
    """Distinguishes the files of this process from those of others on its host."""
    rank = roles.own_rank()
    if rank is not None:
        return f"rank{rank.rank}"
    return "launcher" if roles.role() is roles.Role.LAUNCHER else "proc"


class LocalSpanExporter(SpansTo):
    """Spans to a file of this process; see ``JsonFile`` for its name."""

    is_local = True

    def __init__(self) -> None:
        lines = SpanLines()
        super().__init__(JsonFile("traces"), lines.encode, lines.format)


class LocalMetricExporter(MetricsTo):
    """Metrics to a file of this process; takes ``preferred_temporality`` and ``preferred_aggregation``."""

    def __init__(self, **preferred: Any) -> None:
        super().__init__(JsonFile("metrics"), MetricLines().encode, **preferred)


class LocalLogExporter(LogsTo):
    """Log records to a file of this process."""

    def __init__(self) -> None:
        super().__init__(JsonFile("logs"), lambda batch: json_line(encode_logs_as_json(batch)))
