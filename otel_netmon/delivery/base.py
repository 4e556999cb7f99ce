"""What the SDK calls of an exporter, alike for all signals: a batch is encoded, and handed to where it goes."""

from __future__ import annotations

import io
import itertools
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from opentelemetry.exporter.otlp.json.file import FileMetricExporter
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_netmon import config
from otel_netmon.delivery.packed import PackedSpans, Request, SpanFormat, TakesPacked, requests
from otel_netmon.guard import log_once
from otel_netmon.internals.otel_internals_logs import LogRecordExporter, LogRecordExportResult, ReadableLogRecord

_logger = logging.getLogger(__name__)

exit_deadlines: Final[dict[int, float]] = {}
"""When each process has to be done with exporting: all signals share one time limit."""
_SHARE: Final = 0.6
"""Of ``OTEL_NETMON_EXIT_TIMEOUT``: the rest is for what comes before and after."""


class Sink(Protocol):
    """Where encoded batches go, within so many seconds; a file or a ``SendQueue``. Never raises."""

    def put(self, data: bytes, items: int) -> bool: ...
    def flush(self, timeout: float) -> bool: ...
    def close(self, timeout: float) -> None: ...


class _Exporter:
    """What the exporters of all signals have in common. They never raise, and never wait for a collector."""

    def __init__(self, sink: Sink, encode: Callable[[Any], bytes], **settings: Any) -> None:
        super().__init__(**settings)
        self.sink = sink
        self._encode = encode

    def _put(self, batch: Any, items: int, encode: Callable[[Any], bytes] | None = None) -> bool:
        if not items:
            return True
        try:
            return self.sink.put((encode or self._encode)(batch), items)
        except Exception as error:  # noqa: BLE001  # law 1
            log_once(_logger, error, f"otel-netmon: {type(self).__name__} lost a batch; going on with the next")
            return False

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """True when all was taken; returns at once while the collector is away."""
        return self.sink.flush(timeout_millis / 1000)

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Deliver what can be, within ``OTEL_NETMON_EXIT_TIMEOUT`` for all signals together, and close."""
        limit = time.monotonic() + config.current().exit_timeout * _SHARE
        left = exit_deadlines.setdefault(os.getpid(), limit) - time.monotonic()
        self.sink.close(max(0.0, min(timeout_millis / 1000, left)))


class SpansTo(_Exporter, SpanExporter, TakesPacked):
    """Spans to a sink: those of others, which are encoded here, and packed ones in ``format``."""

    def __init__(
        self, sink: Sink, encode: Callable[[Any], bytes], format: SpanFormat | None = None, **settings: Any
    ) -> None:
        super().__init__(sink, encode, **settings)
        self.format = format

    def export(self, spans: Sequence[ReadableSpan | PackedSpans]) -> SpanExportResult:
        """Hand over a batch; FAILURE when some of it is lost."""
        taken = [self._put_some(list(some)) for _, some in itertools.groupby(spans, _is_packed)]
        return SpanExportResult.SUCCESS if all(taken) else SpanExportResult.FAILURE

    def _put_some(self, spans: list[Any]) -> bool:
        if not isinstance(spans[0], PackedSpans) or self.format is None:
            return self._put(spans, len(spans))
        taken = [self._put(each, each.items, self._request) for each in requests(spans)]
        return all(taken)

    def _request(self, what: Request) -> bytes:
        assert self.format is not None
        return self.format.request(what.resource, what.scope, what.chunks)


def _is_packed(span: ReadableSpan | PackedSpans) -> bool:
    return isinstance(span, PackedSpans)


class MetricsTo(_Exporter, FileMetricExporter):
    """Metrics to a sink. Temporality and aggregation are those of the official exporters: cumulative, unless the
    standard variables or arguments say otherwise. The base class reads those; nothing is written to its stream."""

    def __init__(self, sink: Sink, encode: Callable[[Any], bytes], **preferred: Any) -> None:
        super().__init__(sink, encode, stream=io.StringIO(), **preferred)

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:  # noqa: ARG002 - as the SDK calls it
        """Hand over a collection; FAILURE when it is lost."""
        scopes = (scope for resource in metrics_data.resource_metrics for scope in resource.scope_metrics)
        points = sum(len(metric.data.data_points) for scope in scopes for metric in scope.metrics)
        return MetricExportResult.SUCCESS if self._put(metrics_data, points) else MetricExportResult.FAILURE


class LogsTo(_Exporter, LogRecordExporter):
    """Log records to a sink."""

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Hand over a batch; FAILURE when it is lost."""
        return LogRecordExportResult.SUCCESS if self._put(batch, len(batch)) else LogRecordExportResult.FAILURE
