"""The queue as the exporters use it: bounded without a disk, quiet in the log and in traces."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from opentelemetry.instrumentation.utils import is_instrumentation_enabled

from otel_netmon import semconv
from otel_netmon.delivery.backlog import MEMORY, Backlog
from otel_netmon.delivery.exporters import OtlpSpanExporter
from otel_netmon.delivery.send_queue import SendQueue
from otel_netmon.delivery.transport import Outcome
from tests.unit.delivery.refusing import Refusing, refusing
from tests.unit.monitors.helpers import wait_for_child


def test_without_collector_and_disk_the_oldest_go_beyond_eight_mebibytes(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file stands where the folder should be")
    backlog = Backlog("traces", tmp_path / "spool", 1 << 30)
    request, count = b"x" * (1 << 20), 40
    for number in range(count):
        backlog.put(request, 100)
        if number == 1:
            backlog.next()  # on its way: it does not count
        assert backlog.bytes_in_memory <= MEMORY
    waiting = len(backlog.in_memory())
    assert backlog.stats.lost[semconv.REASON_NO_SPOOL] + 100 * waiting == 100 * count and waiting <= 9


def test_what_happens_is_logged_once_and_without_secrets(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "spool").write_text("a file stands where the folder should be")
    tried = threading.Event()
    queue = refusing("traces", tmp_path / "spool", 1 << 30, lambda _: tried.set())
    for _ in range(40):
        queue.put(b"x" * (1 << 20), 100)
    assert tried.wait(10)
    queue.close(0.1)
    text = caplog.text
    assert text.count("traces cannot be buffered on disk") == 1 and text.count("traces are lost") == 1
    assert text.count("traces cannot be exported to http://***@nowhere (UNAVAILABLE); buffering in memory") == 1
    assert queue.stats.lost == {semconv.REASON_NO_SPOOL: 4000} and "hunter2" not in text


def test_a_collector_that_asks_for_ages_does_not_end_the_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More seconds than a lock can be waited for: an exception of a thread fails the test."""
    monkeypatch.setattr(Refusing, "send", lambda *_: Outcome("retry", "HTTP 503", after=1e12))
    queue = refusing("traces", tmp_path / "spool", 1 << 20)
    queue.put(b"x", 1)
    assert not queue.flush(10) and queue.stats.failing
    queue.close(0)
    assert list((tmp_path / "spool").iterdir()) and not queue.stats.lost


def test_an_export_is_not_itself_instrumented(tmp_path: Path) -> None:
    """The user may trace requests or gRPC: each export of ours would be a span, and so another export."""
    seen: list[bool] = []
    queue = refusing("traces", tmp_path / "spool", 1 << 20, lambda _: seen.append(is_instrumentation_enabled()))
    queue.put(b"x", 1)
    queue.close(1)
    assert seen and not any(seen)


def test_a_connection_is_made_with_the_exporter_once_in_each_process_and_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that wrong settings are seen at the start; and also where nothing was exported before a fork."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    exporter, closed = OtlpSpanExporter(), []
    queue = exporter.sink
    assert isinstance(queue, SendQueue) and queue.stats.endpoint == "http://127.0.0.1:1/v1/traces"
    parents = queue.connect()
    assert queue.connect() is parents
    child = os.fork()
    if child == 0:
        os._exit(0 if queue.connect() is not parents else 3)
    assert wait_for_child(child) == 0
    monkeypatch.setattr(parents, "close", lambda: closed.append(True))
    exporter.shutdown()
    assert closed
