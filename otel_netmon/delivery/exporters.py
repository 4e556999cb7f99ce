"""The exporters behind ``otel_netmon_otlp``: arguments and variables are those of the official OTLP exporters, and
nothing is lost while no collector listens."""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path
from typing import Any

from otel_netmon import config
from otel_netmon.delivery.base import LogsTo, MetricsTo, SpansTo
from otel_netmon.delivery.connect import connect
from otel_netmon.delivery.in_pieces import metrics_message, spans_message
from otel_netmon.delivery.otlp_protobuf import Protobuf
from otel_netmon.delivery.send_queue import SendQueue
from otel_netmon.delivery.stats import report
from otel_netmon.internals.otel_internals_logs import encode_logs
from otel_netmon.sdk.values import Signal


def _queue(signal: Signal, **arguments: Any) -> SendQueue:
    settings = config.current()
    folder = settings.spool_dir or Path(tempfile.gettempdir()) / f"otel-netmon-spool-{os.geteuid()}"
    queue = SendQueue(functools.partial(connect, signal, **arguments), signal, folder, settings.spool_max_bytes)
    queue.connect()  # now, so that wrong settings are seen
    report(queue, signal)
    return queue


class OtlpSpanExporter(SpansTo):
    """Spans by OTLP, over gRPC or HTTP as the standard variables say."""

    def __init__(self, **arguments: Any) -> None:
        queue = _queue("traces", **arguments)
        super().__init__(queue, spans_message, Protobuf())


class OtlpMetricExporter(MetricsTo):
    """Metrics by OTLP."""

    def __init__(self, preferred_temporality: Any = None, preferred_aggregation: Any = None, **rest: Any) -> None:
        super().__init__(
            _queue("metrics", **rest),
            metrics_message,
            preferred_temporality=preferred_temporality,
            preferred_aggregation=preferred_aggregation,
        )


class OtlpLogExporter(LogsTo):
    """Log records by OTLP."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(_queue("logs", **arguments), lambda batch: bytes(encode_logs(batch).SerializeToString()))
