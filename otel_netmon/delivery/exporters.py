"""The exporters behind ``otel_netmon_otlp``: the official OTLP ones, and nothing lost while no collector listens.

They read the same variables as ``otlp``. What they add is a spool on disk, used only when delivery fails or lags.
"""

from __future__ import annotations

import os
import tempfile
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from opentelemetry import metrics
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    MetricExporter,
    MetricExportResult,
    MetricsData,
)
from opentelemetry.sdk.metrics.view import Aggregation
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_netmon import config, semconv
from otel_netmon.delivery import wire
from otel_netmon.delivery.outbox import Outbox
from otel_netmon.delivery.wire import Wire
from otel_netmon.sdk.values import Signal
from otel_netmon.version import __version__

_end: dict[int, float] = {}
"""When this process has to be done with delivering: all signals share one time limit."""


def spool_folder() -> Path:
    """Where requests wait: ``OTEL_NETMON_SPOOL_DIR``, else a folder of the user's below the temporary one."""
    chosen = config.current().spool_dir
    return chosen if chosen is not None else Path(tempfile.gettempdir()) / f"otel-netmon-spool-{os.geteuid()}"


def outbox(signal: Signal, made: Any, **arguments: Any) -> Outbox:
    """The way out over the connection of ``made``, an official exporter, or of one like it after a fork."""
    ready = [made]

    def connect() -> Wire:
        return Wire(ready.pop() if ready else wire.official(signal, **arguments), signal)

    return Outbox(connect, signal, spool_folder(), config.current().spool_max_bytes)


def _time_left(asked: float) -> float:
    """Seconds that the end may still take: of ``OTEL_NETMON_EXIT_TIMEOUT``, from the first one who asked."""
    limit = config.current().exit_timeout * _SHARE
    end = _end.setdefault(os.getpid(), time.monotonic() + limit)
    return max(0.0, min(asked, end - time.monotonic()))


_SHARE: Final = 0.6
"""Of the time at exit: the rest is for what comes before and after."""


class _Delivering:
    """What the exporters of all signals have in common."""

    _outbox: Outbox

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """True when all was taken; returns at once while the collector is away."""
        return self._outbox.flush(timeout_millis / 1000)

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Deliver what can be, and leave the rest on disk, within ``OTEL_NETMON_EXIT_TIMEOUT``."""
        self._outbox.close(_time_left(timeout_millis / 1000))


class OtlpSpanExporter(_Delivering, SpanExporter):
    """Spans by OTLP, over gRPC or HTTP as the standard variables say. Never raises, never waits for one."""

    def __init__(self, **arguments: Any) -> None:
        self._outbox = outbox("traces", wire.official("traces", **arguments), **arguments)
        report(self._outbox, "traces")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Hand over a batch; FAILURE when it is lost."""
        if not spans:
            return SpanExportResult.SUCCESS
        taken = self._outbox.put(encode_spans(spans).SerializeToString(), len(spans))
        return SpanExportResult.SUCCESS if taken else SpanExportResult.FAILURE


class OtlpMetricExporter(_Delivering, MetricExporter):
    """Metrics by OTLP; see ``OtlpSpanExporter``. Temporality and aggregation are the official exporter's."""

    def __init__(
        self,
        preferred_temporality: dict[type, AggregationTemporality] | None = None,
        preferred_aggregation: dict[type, Aggregation] | None = None,
        **arguments: Any,
    ) -> None:
        made = wire.official(
            "metrics",
            preferred_temporality=preferred_temporality,
            preferred_aggregation=preferred_aggregation,
            **arguments,
        )
        super().__init__(
            preferred_temporality=made._preferred_temporality, preferred_aggregation=made._preferred_aggregation
        )
        self._outbox = outbox("metrics", made, **arguments)
        report(self._outbox, "metrics")

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:  # noqa: ARG002
        """Hand over a collection; FAILURE when it is lost."""
        if not metrics_data.resource_metrics:
            return MetricExportResult.SUCCESS
        items = sum(
            len(metric.data.data_points)
            for resource in metrics_data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        )
        taken = self._outbox.put(encode_metrics(metrics_data).SerializeToString(), items)
        return MetricExportResult.SUCCESS if taken else MetricExportResult.FAILURE


class OtlpLogExporter(_Delivering, LogRecordExporter):
    """Log records by OTLP; see ``OtlpSpanExporter``."""

    def __init__(self, **arguments: Any) -> None:
        self._outbox = outbox("logs", wire.official("logs", **arguments), **arguments)
        report(self._outbox, "logs")

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Hand over a batch; FAILURE when it is lost."""
        if not batch:
            return LogRecordExportResult.SUCCESS
        taken = self._outbox.put(encode_logs(batch).SerializeToString(), len(batch))
        return LogRecordExportResult.SUCCESS if taken else LogRecordExportResult.FAILURE


def report(box: Outbox, signal: Signal) -> None:
    """Tell by metrics of whatever provider is global what became of a signal.

    The SDK drops the callbacks of an instrument that is created twice: so each is made once, for all outboxes.
    """
    first = not _reported
    _reported.append((weakref.ref(box), {semconv.DELIVERY_SIGNAL: signal}))
    if not first:
        return
    meter = metrics.get_meter(semconv.SCOPE_DELIVERY, __version__, schema_url=semconv.SCHEMA_URL)

    def each(read: Callable[[Outbox], float]) -> Callable[[CallbackOptions], list[Observation]]:
        return lambda _: [Observation(read(box), about) for ref, about in _reported if (box := ref()) is not None]

    def lost(_: CallbackOptions) -> list[Observation]:
        return [
            Observation(count, {**about, semconv.DELIVERY_REASON: reason})
            for ref, about in _reported
            if (box := ref()) is not None
            for reason, count in list(box.account.lost.items())
        ]

    semconv.create(meter, semconv.DELIVERED_ITEMS, [each(lambda box: box.account.delivered)])
    semconv.create(meter, semconv.LOST_ITEMS, [lost])
    semconv.create(meter, semconv.DELIVERY_RETRIES, [each(lambda box: box.account.retries)])
    semconv.create(meter, semconv.SPOOL_SIZE, [each(lambda box: box.spool_size())])


_reported: list[tuple[weakref.ref[Outbox], dict[str, str]]] = []
