"""Each use of a private name of OpenTelemetry works, and costs what its docstring says when the name is gone."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_netmon import semconv
from otel_netmon.capture.aggregator import Distribution
from otel_netmon.delivery.base import SpansTo
from otel_netmon.delivery.connect import connect
from otel_netmon.delivery.send_queue import SendQueue
from otel_netmon.emit.metrics import BulkHistogram
from otel_netmon.emit.spans import SpanWriter
from otel_netmon.internals import otel_internals, otel_internals_logs, otel_internals_spans
from otel_netmon.sdk.values import SIGNALS, Signal
from tests.unit.emit.test_finished_spans import emit


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60
    )


# --- the SDK's setup ---------------------------------------------------------------------------------------


def test_without_a_configurator_one_line_says_what_to_install() -> None:
    code = """
        import os, sys
        os.environ["OTEL_TRACES_EXPORTER"] = "console"
        sys.modules["opentelemetry.sdk._configuration"] = None
        from otel_netmon.sdk.setup import configure_sdk_if_nobody_did
        configure_sdk_if_nobody_did()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stderr.count("\n") == 1 and "opentelemetry-distro" in done.stderr


def test_the_configurator_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is run in ``test_sdk_settings``."""
    from opentelemetry.sdk import _configuration

    ran: list[bool] = []
    monkeypatch.setattr(_configuration._OTelSDKConfigurator, "configure", lambda _: ran.append(True))
    otel_internals.configure_sdk()
    assert ran == [True]


def test_the_resource_of_a_provider_is_updated() -> None:
    before, added = Resource({"a": 1, "old": 2}), Resource({"rank": 3})
    kept = InMemorySpanExporter()
    tracers = TracerProvider(resource=before, shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(kept))
    tracer = tracers.get_tracer("t")
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], resource=before, shutdown_on_exit=False)
    meters.get_meter("t").create_counter("c").add(1)
    for provider in (tracers, meters):
        otel_internals.update_resource(provider, added, {"old", "not there"})
    tracer.start_span("s").end()
    data = reader.get_metrics_data()
    assert data is not None
    for resource in (kept.get_finished_spans()[0].resource, data.resource_metrics[0].resource):
        assert dict(resource.attributes) == {"a": 1, "rank": 3}


def test_another_providers_resource_stays(caplog: pytest.LogCaptureFixture) -> None:
    otel_internals.update_resource(None, Resource({}), ())
    assert not caplog.records
    changed = SimpleNamespace(_update_resource=lambda _: None)
    for _ in range(3):
        otel_internals.update_resource(changed, Resource({}), ())
    assert caplog.text.count("goes on with the old one") >= 1


# --- spans -------------------------------------------------------------------------------------------------


def spans_made(provider: TracerProvider, monkeypatch: pytest.MonkeyPatch, count: int = 4) -> tuple[int, int]:
    """Collectives that were exported, and how many of them the SDK made."""
    kept = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    writer = SpanWriter(provider)
    assert writer.ready()
    emit(writer, count)
    spans = kept.get_finished_spans()
    return len(spans), sum(not isinstance(span, otel_internals_spans.FinishedSpan) for span in spans)


def test_the_sdks_spans_are_made_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    processors = otel_internals_spans.span_processors(provider)
    assert processors == () and otel_internals_spans.span_limits(provider) is not None
    assert otel_internals_spans.can_be_finished(provider.resource)
    assert spans_made(provider, monkeypatch) == (4, 1)


@pytest.mark.parametrize("name", ["_active_span_processor", "_span_limits"])
def test_without_one_of_these_the_sdk_makes_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Provider(TracerProvider):
        """Renames what it keeps, once it is set up."""

        def __getattribute__(self, asked: str) -> Any:
            if asked == name and sys._getframe(1).f_globals["__name__"] == otel_internals_spans.__name__:
                raise AttributeError(asked)
            return super().__getattribute__(asked)

    assert spans_made(Provider(shutdown_on_exit=False), monkeypatch) == (4, 4)


def test_the_size_of_a_batch_is_found_or_the_default() -> None:
    exporter = InMemorySpanExporter()
    batched = BatchSpanProcessor(exporter, max_export_batch_size=7)
    assert otel_internals_spans.batch_size(batched) == 7
    batched.shutdown()  # type: ignore[no-untyped-call]  # untyped in the SDK
    assert otel_internals_spans.batch_size(SimpleSpanProcessor(exporter)) == 512
    for other in (
        SimpleNamespace(),
        SimpleNamespace(_batch_processor=SimpleNamespace(_max_export_batch_size="7")),
    ):
        assert otel_internals_spans.batch_size(other) == 512


def test_a_span_with_another_part_is_made_by_the_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    original = ReadableSpan.__init__

    def with_more(self: Any, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)
        self._color = "red"

    monkeypatch.setattr(ReadableSpan, "__init__", with_more)
    assert spans_made(TracerProvider(shutdown_on_exit=False), monkeypatch) == (4, 4)


# --- metrics -----------------------------------------------------------------------------------------------


def histogram() -> tuple[BulkHistogram, InMemoryMetricReader]:
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("t")
    return BulkHistogram(meter, semconv.COLLECTIVE_DURATION_METRIC), reader


def points(reader: InMemoryMetricReader) -> list[dict[str, Any]]:
    data = reader.get_metrics_data()
    found = [] if data is None else [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics]
    return [
        {name: getattr(point, name) for name in ("count", "sum", "min", "max", "bucket_counts")}
        for metric in found
        for point in metric.data.data_points
    ]


def record(bulk: BulkHistogram, rounds: int = 3) -> None:
    for _ in range(rounds):
        values = Distribution(semconv.SECONDS_BUCKETS)
        for value in (0.001, 0.02, 3.0):
            values.add([value])
        bulk.record(values, {"a": "b"})


@pytest.mark.parametrize("gone", [None, "opentelemetry.sdk.metrics._internal.aggregation"])
def test_values_are_recorded_at_once_or_one_by_one(gone: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    bulk, reader = histogram()
    record(bulk, 1)
    bounds = semconv.SECONDS_BUCKETS
    assert otel_internals.histogram_points(bulk.instrument, {"a": "b"}, bounds)
    if gone is not None:
        monkeypatch.setitem(sys.modules, gone, None)
    assert (otel_internals.histogram_points(bulk.instrument, {"a": "b"}, bounds) is None) == (gone is not None)
    assert otel_internals.histogram_points(object(), {}, bounds) is None
    record(bulk, 2)
    (point,) = points(reader)
    assert point["count"] == 9 and point["sum"] == pytest.approx(9.063)
    assert (point["min"], point["max"]) == (0.001, 3.0) and sum(point["bucket_counts"]) == 9


def test_an_instrument_that_was_made_before_the_sdk_is_found() -> None:
    code = """
        from opentelemetry import metrics
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from otel_netmon import semconv
        from otel_netmon.internals.otel_internals import histogram_points
        made = semconv.create(metrics.get_meter("t"), semconv.COLLECTIVE_DURATION_METRIC)
        metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False))
        made.record(1.0, {"a": "b"})
        assert histogram_points(made, {"a": "b"}, semconv.SECONDS_BUCKETS)
    """
    done = python(code)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_parents_measurements_are_forgotten_or_stay() -> None:
    bulk, reader = histogram()
    record(bulk)
    otel_internals.forget(object())
    assert len(points(reader)) == 1
    otel_internals.forget(bulk.instrument)
    assert points(reader) == []
    record(bulk, 1)
    assert points(reader)[0]["count"] == 3


# --- OTLP exporters ----------------------------------------------------------------------------------------

EXPORTERS = {"grpc": "http://127.0.0.1:1", "http/protobuf": "http://127.0.0.1:1/v1/x"}


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("protocol", EXPORTERS)
def test_each_official_exporter_gives_its_settings(
    protocol: str, signal: Signal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "7")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    transport = connect(signal, endpoint=EXPORTERS[protocol])
    assert transport.endpoint in EXPORTERS[protocol] and transport.timeout == pytest.approx(7, abs=0.1)
    outcome = transport.send(b"", 5)
    assert outcome.kind == "retry" and "nothing listens there" in outcome.reason
    transport.close()


@pytest.mark.parametrize("protocol", EXPORTERS)
def test_an_exporter_that_is_made_otherwise_loses_nothing(
    protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be sent is kept on disk, and the log says what to do."""

    class Other:
        def __init__(self, **_: Any) -> None: ...

        def export(self, *_: Any) -> None: ...

        def shutdown(self) -> None: ...

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
    for module in ("grpc", "http"):
        monkeypatch.setattr(f"opentelemetry.exporter.otlp.proto.{module}.trace_exporter.OTLPSpanExporter", Other)
    with pytest.raises(LookupError):
        connect("traces")
    queue = SendQueue(lambda: connect("traces"), "traces", tmp_path / "spool", 1 << 20)
    assert queue.put(b"x", 1)
    deadline = time.monotonic() + 10
    while not queue.stats.failing and time.monotonic() < deadline:
        time.sleep(0.01)
    queue.close(0)
    assert queue.stats.lost == {} and list((tmp_path / "spool").iterdir())
    assert "update otel-netmon" in caplog.text and "otel-netmon flush" in caplog.text


def test_without_the_module_of_logs_the_other_signals_are_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc._log_exporter", None)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(LookupError):
        connect("logs")
    connect("metrics").close()


# --- logs --------------------------------------------------------------------------------------------------


def test_log_events_are_emitted_and_encoded() -> None:
    """Encoded in ``delivery/test_logs.py`` as well, by the exporters."""
    emitted: list[Any] = []
    otel_internals_logs.emit_event(SimpleNamespace(emit=emitted.append), "WARN", body="b", event_name="e")
    assert (emitted[0].body, emitted[0].event_name, emitted[0].severity_text) == ("b", "e", "WARN")
    assert otel_internals_logs.logger_provider() is not None
    assert otel_internals_logs.encode_logs([]).SerializeToString() == b""
    assert otel_internals_logs.encode_logs_as_json([]).to_dict() is not None


def test_without_the_signal_of_logs_no_event_is_emitted(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("opentelemetry._logs", "opentelemetry.exporter.otlp.proto.common._log_encoder"):
        monkeypatch.setitem(sys.modules, module, None)
    provider = otel_internals_logs.logger_provider()
    assert provider is None and otel_internals_logs.is_stand_in(provider)
    otel_internals_logs.emit_event(None, "WARN", body="b")  # not asked
    with pytest.raises(LookupError):
        otel_internals_logs.encode_logs([])


def test_without_the_sdks_logs_spans_and_metrics_are_exported() -> None:
    code = """
        import sys
        sys.modules["opentelemetry.sdk._logs"] = sys.modules["opentelemetry.sdk._logs.export"] = None
        from otel_netmon.delivery import exporters, local_files
        local_files.LocalSpanExporter(), local_files.LocalMetricExporter()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_encoder_that_is_gone_costs_the_batch_and_one_log_line(caplog: pytest.LogCaptureFixture) -> None:
    def gone(_: Any) -> bytes:
        raise LookupError("encode_spans is not found")

    exporter = SpansTo(SimpleNamespace(put=None, flush=None, close=None), gone)
    results = [exporter.export([ReadableSpan("s")]) for _ in range(3)]
    assert results == [SpanExportResult.FAILURE] * 3
    assert len([one for one in caplog.records if one.levelname == "ERROR"]) == 1
