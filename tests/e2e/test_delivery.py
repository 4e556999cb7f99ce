"""Nothing is lost on the way to a collector that is away, slow, silent, or says no; and nobody waits for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from otel_netmon import config, semconv
from otel_netmon.delivery.base import exit_deadlines
from otel_netmon.delivery.exporters import OtlpSpanExporter

from .faulty import Faulty, Protocol, free_port, serving, until

PROTOCOLS: tuple[Protocol, ...] = ("grpc", "http/protobuf")
PROGRAM = Path(__file__).parent / "programs" / "send_spans.py"


@pytest.fixture(params=PROTOCOLS)
def faulty(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Faulty:
    return Faulty(request.param)


@pytest.fixture
def port(faulty: Faulty, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[int]:
    number = free_port()
    for name, value in environment(faulty, number, tmp_path / "spool").items():
        monkeypatch.setenv(name, value)
    config.current.cache_clear()
    exit_deadlines.clear()
    yield number
    config.current.cache_clear()


def environment(faulty: Faulty, port: int, spool: Path) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": faulty.protocol,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "5",
        "OTEL_NETMON_SPOOL_DIR": str(spool),
    }


Sender = Callable[[int], None]


@pytest.fixture
def send(port: int) -> Iterator[Sender]:
    """Makes so many spans and hands them to the exporter, as a batch processor would."""
    exporter = OtlpSpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=50))
    tracer = provider.get_tracer("test")

    def make(count: int) -> None:
        for number in range(count):
            tracer.start_span(f"span {number}").end()
        provider.force_flush()

    make.exporter = exporter  # type: ignore[attr-defined]  # known at run time alone
    make.provider = provider  # type: ignore[attr-defined]  # known at run time alone
    yield make
    provider.shutdown()


def stats(send: Sender) -> Any:
    return send.exporter.sink.stats  # type: ignore[attr-defined]  # known at run time alone


def files(folder: Path) -> list[Path]:
    return list(folder.glob("*.spool"))


def test_while_all_is_well_the_disk_is_not_touched(
    faulty: Faulty, port: int, send: Sender, tmp_path: Path
) -> None:
    with serving(faulty, port):
        for _ in range(5):
            send(100)
        faulty.wait_for(500)
        assert not (tmp_path / "spool").exists()
        assert set(faulty.spans.values()) == {1}
        until(lambda: stats(send).delivered == 500, 5)


@pytest.mark.row("no collector at the start; it comes later")
def test_a_collector_that_comes_late_and_one_that_goes_and_comes_back(
    faulty: Faulty,
    port: int,
    send: Sender,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    ledger: Callable[..., None],
) -> None:
    start = time.monotonic()
    for _ in range(10):
        send(50)
    assert time.monotonic() - start < 5  # nobody waits for it
    until(lambda: bool(files(tmp_path / "spool")), 10)
    with serving(faulty, port):
        faulty.wait_for(500)
        until(lambda: not files(tmp_path / "spool"), 10)
    for _ in range(10):
        send(50)
    until(lambda: caplog.text.count("cannot be exported to") == 2, 10)
    with serving(faulty, port):
        faulty.wait_for(1000)
        send(10)
        faulty.wait_for(1010)
        assert stats(send).lost == {}
    text = caplog.text
    assert text.count("cannot be exported to") == 2 and text.count("are exported to") == 2
    ledger(sent=1010, lost=1010 - len(faulty.spans))


def test_a_collector_that_is_back_at_the_end_gets_it_at_once(
    faulty: Faulty, port: int, send: Any, tmp_path: Path
) -> None:
    """The pause between two attempts has grown to seconds by then; the end does not wait for it to be over."""
    send(50)
    until(lambda: stats(send).retries >= 4, 20)
    with serving(faulty, port):
        send.provider.shutdown()
        assert len(faulty.spans) == 50
    assert not files(tmp_path / "spool")


@pytest.mark.row("the collector is slow (1 s per request), or takes requests and never answers")
def test_a_slow_collector_and_one_that_never_answers(
    faulty: Faulty, port: int, send: Sender, tmp_path: Path, ledger: Callable[..., None]
) -> None:
    faulty.delay = 1.0
    with serving(faulty, port):
        start = time.monotonic()
        for _ in range(20):
            send(20)
            time.sleep(0.1)
        assert time.monotonic() - start < 10
        assert files(tmp_path / "spool")  # it lags: what waits is on disk
        faulty.delay = 0.0
        faulty.wait_for(400)
        faulty.hang.set()
        start = time.monotonic()
        for _ in range(10):
            send(20)
        assert time.monotonic() - start < 5
        time.sleep(1)
        faulty.hang.clear()
        faulty.wait_for(600)
        assert stats(send).lost == {}
    ledger(sent=600, lost=600 - len(faulty.spans))


@pytest.mark.parametrize(("status", "after"), [(503, None), (429, 0.3), (400, None), (413, None)])
@pytest.mark.row("429 with Retry-After, 503; 400, 413")
def test_what_is_refused_is_sent_again_or_counted_as_the_specification_says(
    faulty: Faulty, port: int, send: Sender, status: int, after: float | None
) -> None:
    faulty.status, faulty.retry_after = status, after
    with serving(faulty, port):
        send(10)
        if status in (503, 429):
            until(lambda: len(faulty.requests) >= 3, 15)
            if after is not None:
                pauses = [b - a for a, b in zip(faulty.requests, faulty.requests[1:], strict=False)]
                assert all(pause >= 0.29 for pause in pauses)
            faulty.status = None
            faulty.wait_for(10)
            assert stats(send).lost == {}
            assert stats(send).retries >= 2
        else:
            until(lambda: bool(stats(send).lost), 10)
            time.sleep(0.5)
            assert len(faulty.requests) == 1  # never a second time
            assert sum(stats(send).lost.values()) == 10
            faulty.status = None
            send(5)
            faulty.wait_for(5)


@pytest.mark.row("partial success")
def test_partial_success_is_counted_and_not_sent_again(faulty: Faulty, port: int, send: Sender) -> None:
    faulty.partial = 3
    with serving(faulty, port):
        send(10)
        until(lambda: stats(send).delivered == 7, 10)
        assert stats(send).lost == {semconv.REASON_PARTIAL: 3}
        assert len(faulty.requests) == 1


@pytest.mark.row("an answer that is lost on the way")
def test_an_answer_that_is_lost_brings_the_same_spans_twice_and_no_others(
    faulty: Faulty, port: int, send: Sender, ledger: Callable[..., None]
) -> None:
    """Delivery is at least once: a duplicate is known by its span id."""
    faulty.lose_answers = 1
    with serving(faulty, port):
        send(10)
        until(lambda: stats(send).delivered == 10, 10)
        assert len(faulty.spans) == 10
        assert max(faulty.spans.values()) <= 3
    ledger(sent=10, lost=10 - len(faulty.spans), twice=sum(faulty.spans.values()) - len(faulty.spans))


def test_headers_and_compression_are_the_official_exporters(
    faulty: Faulty, port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20canary-4711")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    exporter = OtlpSpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=50))
    with serving(faulty, port):
        provider.get_tracer("test").start_span("one").end()
        provider.force_flush()
        faulty.wait_for(1)
        lowered = {key.lower(): value for key, value in faulty.headers[0].items()}
        assert lowered["authorization"] == "Bearer canary-4711"
        provider.shutdown()


@pytest.mark.row("the collector is dead at the end")
def test_the_end_comes_in_time_and_the_next_run_delivers(
    faulty: Faulty, port: int, tmp_path: Path, ledger: Callable[..., None]
) -> None:
    """The collector is dead when the process ends; another one starts, and all of both arrives."""
    done, took = program(faulty, port, tmp_path, "end", 300)
    assert done.returncode == 0, done.stderr
    assert took < 5
    assert "otel-netmon flush" in done.stderr and files(tmp_path / "spool")
    with serving(faulty, port):
        done, _ = program(faulty, port, tmp_path, "end", 100, "wait")
        assert done.returncode == 0, done.stderr
        faulty.wait_for(400)
        until(lambda: not files(tmp_path / "spool"), 5)
    ledger(sent=400, lost=400 - len(faulty.spans), exit=took)


@pytest.mark.parametrize("how", ["SIGKILL", "_exit"])
@pytest.mark.row("SIGKILL, `os._exit`")
def test_a_killed_process_leaves_what_was_older_than_a_second_on_disk(
    faulty: Faulty, port: int, tmp_path: Path, how: str, ledger: Callable[..., None]
) -> None:
    done, _ = program(faulty, port, tmp_path, how, 300)
    assert done.returncode == (-signal.SIGKILL if how == "SIGKILL" else 7)
    with serving(faulty, port):
        flushed = flush(faulty, port, tmp_path)
        assert flushed.returncode == 0, flushed.stderr
        assert len(faulty.spans) == 300
        assert "300" in flushed.stdout
        assert not files(tmp_path / "spool")
    ledger(sent=300, lost=300 - len(faulty.spans))


def program(
    faulty: Faulty, port: int, folder: Path, *arguments: object
) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run ``send_spans.py``; how long it took from its last line to its end."""
    started = subprocess.Popen(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        env={**os.environ, **environment(faulty, port, folder / "spool")},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert started.stdout is not None
    line = started.stdout.readline()
    last = time.monotonic()
    out, err = started.communicate(timeout=60)
    took = time.monotonic() - last
    return subprocess.CompletedProcess(started.args, started.returncode, line + out, err), took


def flush(faulty: Faulty, port: int, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "otel_netmon.cli", "flush", str(folder / "spool")],
        env={**os.environ, **environment(faulty, port, folder / "elsewhere")},
        capture_output=True,
        text=True,
        timeout=60,
    )
