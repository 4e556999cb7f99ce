"""A collection of metrics as a line of OTLP JSON. Of the pieces that were encoded only text is kept."""

from __future__ import annotations

from opentelemetry.exporter.otlp.json.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics.export import Metric, MetricsData

from otel_netmon.delivery.metric_pieces import pieces, without_metrics
from otel_netmon.text import HERE, as_json
from otel_netmon.threads import Pace


def metrics_line(data: MetricsData) -> bytes:
    """``data`` as a line of OTLP JSON: what the official encoder makes of it."""
    around, pace = encode_metrics(without_metrics(data)).to_dict(), Pace()
    metrics = []
    for resource, its in zip(data.resource_metrics, around.get("resourceMetrics", ()), strict=True):
        for scope, those in zip(resource.scope_metrics, its.get("scopeMetrics", ()), strict=True):
            those["metrics"] = [HERE]
            metrics.append(",".join([_json(metric, pace) for metric in scope.metrics]))
    first, *between = as_json(around).split(as_json(HERE))
    put = "".join(f"{found}{after}" for found, after in zip(metrics, between, strict=True))
    return f"{first}{put}\n".encode()


def _json(metric: Metric, pace: Pace) -> str:
    points, found = [], {}
    for piece in pieces(metric, pace):
        found = encode_metrics(piece).to_dict()["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]
        for about in found.values():
            if isinstance(about, dict) and "dataPoints" in about:
                points.append(as_json(about["dataPoints"])[1:-1])
                about["dataPoints"] = [HERE]
    return as_json(found).replace(as_json(HERE), ",".join(points))
