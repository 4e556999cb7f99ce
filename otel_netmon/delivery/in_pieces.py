"""OTLP's protobuf made by the official encoders, a few points or spans at a time, so that other threads get their
turn between: the same messages as of all at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.metrics.export import MetricsData
from opentelemetry.sdk.trace import ReadableSpan

from otel_netmon.delivery.metric_pieces import pieces, without_metrics
from otel_netmon.threads import Pace

_AT_ONCE: Final = 8
"""Spans."""


def metrics_message(data: MetricsData) -> bytes:
    """A collection."""
    whole, pace = encode_metrics(without_metrics(data)), Pace()
    for resource, its in zip(data.resource_metrics, whole.resource_metrics, strict=True):
        for scope, those in zip(resource.scope_metrics, its.scope_metrics, strict=True):
            for metric in scope.metrics:
                made = those.metrics.add()
                for piece in pieces(metric, pace):
                    made.MergeFrom(encode_metrics(piece).resource_metrics[0].scope_metrics[0].metrics[0])
    return bytes(whole.SerializeToString())


def spans_message(batch: Sequence[ReadableSpan]) -> bytes:
    """A batch of spans, in pieces where all are of one resource and scope."""
    first, pace = batch[0], Pace()
    if any(one.resource is not first.resource for one in batch) or any(
        one.instrumentation_scope is not first.instrumentation_scope for one in batch
    ):
        return bytes(encode_spans(batch).SerializeToString())
    whole: Any = None
    for some in pace.pieces(batch, _AT_ONCE):
        part = encode_spans(some)
        if whole is None:
            whole = part
        else:
            spans = whole.resource_spans[0].scope_spans[0].spans
            spans.extend(part.resource_spans[0].scope_spans[0].spans)
    return bytes(whole.SerializeToString())
