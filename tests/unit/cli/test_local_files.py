"""The exporters behind `otel_netmon_file`, and the resource that tells processes apart."""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource, get_aggregated_resources
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_netmon import config, semconv
from otel_netmon.analysis.nics import NicTotal
from otel_netmon.analysis.summary import summarise
from otel_netmon.delivery.local_files import LocalMetricExporter, LocalSpanExporter
from otel_netmon.sdk.resource import RankResourceDetector


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(config.OUTPUT_DIR, str(tmp_path / "a" / "b"))
    config.current.cache_clear()
    yield tmp_path / "a" / "b"
    config.current.cache_clear()


def finished_span(name: str = "s") -> ReadableSpan:
    span = TracerProvider().get_tracer("t").start_span(name)
    span.end()
    assert isinstance(span, ReadableSpan)
    return span


def lines(folder: Path) -> list[Any]:
    return [json.loads(line) for path in folder.iterdir() for line in path.read_text().splitlines()]


def test_a_file_is_made_when_there_is_something_to_write(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "../evil host")
    exporter = LocalSpanExporter()
    assert exporter.export([]) is SpanExportResult.SUCCESS
    assert not folder.exists()
    assert exporter.export([finished_span()]) is SpanExportResult.SUCCESS
    assert exporter.export([finished_span()]) is SpanExportResult.SUCCESS
    (path,) = folder.iterdir()
    assert path.name.startswith(f"traces-..-evil-host-proc-{os.getpid()}-")
    assert path.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert len(lines(folder)) == 2
    exporter.shutdown()
    assert exporter.export([finished_span()]) is SpanExportResult.FAILURE

    monkeypatch.setenv("RANK", "3")
    another = LocalSpanExporter()
    another.export([finished_span()])
    another.shutdown()
    assert sorted(path.name.partition("host-")[2].partition("-")[0] for path in folder.iterdir()) == [
        "proc",
        "rank3",
    ]


def test_without_a_folder_one_warning_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(config.OUTPUT_DIR, raising=False)
    config.current.cache_clear()
    exporter = LocalSpanExporter()
    for _ in range(3):
        assert exporter.export([finished_span()]) is SpanExportResult.FAILURE
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "OTEL_NETMON_OUTPUT_DIR" in caplog.text


def test_a_full_disk_leaves_whole_lines_and_one_warning(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    exporter = LocalSpanExporter()
    exporter.export([finished_span("before")])
    write = os.pwrite
    left = [100]

    def full(fd: int, data: Any, place: int) -> int:
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = write(fd, bytes(data)[: left[0]], place)
        left[0] -= taken
        return taken

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        results = [exporter.export([finished_span("lost")]) for _ in range(3)]
    assert results == [SpanExportResult.FAILURE] * 3
    assert exporter.export([finished_span("after")]) is SpanExportResult.SUCCESS
    exporter.shutdown()
    names = [line["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"] for line in lines(folder)]
    assert names == ["before", "after"]
    assert len([record for record in caplog.records if "No space left" in record.getMessage()]) == 1


def test_metrics_through_the_sdk_are_cumulative_and_summed_up(folder: Path) -> None:
    assert LocalMetricExporter().export(MetricsData([])) is MetricExportResult.SUCCESS
    assert not folder.exists()
    counter = iter((5_000_000_000, 5_000_000_700, 5_000_001_000))

    def observe(_: CallbackOptions) -> list[Observation]:
        attributes = {semconv.INTERFACE: "eth0", semconv.DIRECTION: semconv.DIRECTION_RECEIVE}
        return [Observation(next(counter), attributes)]

    reader = PeriodicExportingMetricReader(LocalMetricExporter(), export_interval_millis=3_600_000)
    provider = MeterProvider([reader], resource=Resource({"host.name": "h"}), shutdown_on_exit=False)
    meter = provider.get_meter("t")
    semconv.create(meter, semconv.NIC_IO, [observe])
    dropped = meter.create_counter(semconv.EVENTS_DROPPED.name)
    for _ in range(2):
        dropped.add(2, {semconv.DROP_REASON: semconv.DROP_ERROR})
        provider.force_flush()
    provider.shutdown()
    summary = summarise(folder)
    (nic,) = summary.nics
    assert nic == NicTotal("h", "eth0", 1000, None, nic.seconds)
    assert summary.losses.dropped == {"error": 4}


FORKING = textwrap.dedent(
    """
    import os, sys, threading
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from otel_netmon.delivery.local_files import LocalSpanExporter

    exporter = LocalSpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("t")
    tracer.start_span("parent").end()
    write, writing, go_on = os.pwrite, threading.Event(), threading.Event()

    def slow(fd, data, place):
        writing.set()
        go_on.wait(30)
        return write(fd, data, place)

    os.pwrite = slow  # a thread of the parent is in the middle of a write
    thread = threading.Thread(target=lambda: tracer.start_span("parent").end())
    thread.start()
    writing.wait(30)
    os.pwrite = write
    if os.fork() == 0:
        tracer.start_span("child").end()
        provider.shutdown()
        os._exit(0)
    _, status = os.wait()
    go_on.set()
    thread.join()
    sys.exit(os.waitstatus_to_exitcode(status))
    """
)


def test_a_forked_child_writes_a_file_of_its_own(folder: Path, environment: dict[str, str]) -> None:
    environ = {**environment, config.OUTPUT_DIR: str(folder)}
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKING], env=environ, timeout=60, check=True)
    names = sorted(
        [span["name"] for line in path.read_text().splitlines() for span in spans_of(line)]
        for path in folder.iterdir()
    )
    assert names == [["child"], ["parent", "parent"]]


def spans_of(line: str) -> list[Any]:
    return [
        span
        for group in json.loads(line)["resourceSpans"]
        for scope in group["scopeSpans"]
        for span in scope["spans"]
    ]


def test_the_resource_says_which_process_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = {"host.name": socket.gethostname(), "process.pid": os.getpid()}
    assert dict(RankResourceDetector().detect().attributes) == plain
    monkeypatch.setenv("RANK", "5")
    assert dict(RankResourceDetector().detect().attributes) == {**plain, semconv.RANK: 5}
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "host.name=mine")
    detector = RankResourceDetector()
    assert detector.is_process_dependent()
    assert dict(get_aggregated_resources([detector], Resource({})).attributes) == {
        "process.pid": os.getpid(),
        semconv.RANK: 5,
        semconv.LOCAL_RANK: 1,
        semconv.WORLD_SIZE: 8,
    }


def test_processes_differ_by_instance_and_forks_by_pid(environment: dict[str, str]) -> None:
    code = textwrap.dedent(
        """
        import json, os, sys
        from opentelemetry.sdk.trace import TracerProvider
        provider = TracerProvider()
        if os.fork() == 0:
            sys.stderr.close()
        else:
            os.wait()
        keep = ("service.instance.id", "process.pid", "host.name")
        sys.stdout.write(json.dumps([provider.resource.attributes[k] for k in keep] + [os.getpid()]) + "\\n")
        """
    )
    environ = {
        **environment,
        "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "otel,otel_netmon",
        "OTEL_RESOURCE_ATTRIBUTES": "host.name=mine",
    }
    seen = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code], env=environ, timeout=60, check=True, capture_output=True
        )
        seen += [json.loads(line) for line in done.stdout.splitlines()]
    assert len({instance for instance, *_ in seen}) == 4
    assert all(pid == real and host == "mine" for _, pid, host, real in seen)
