"""A collection of metrics as a line of OTLP JSON, written as text.

The official encoder makes ten to twenty objects of a point, and takes four times as long. Those of a collection,
alive together, have Python's garbage collector look for cycles among them and, now and then, among all objects of
the process: with torch imported, that stops the training for 0.2 s. Of numbers and histograms the text is made
here; what is around them, and any other point, it encodes, one at a time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from opentelemetry.exporter.otlp.json.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics.export import (
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_netmon.delivery.metric_pieces import without_metrics
from otel_netmon.delivery.otlp_json import double, listed_attributes
from otel_netmon.text import HERE, as_json
from otel_netmon.threads import Pace

_NOWHERE: Final = Resource({}), InstrumentationScope("")
_AT_ONCE: Final = 16
_MOST: Final = 1000
"""Metrics that are remembered: names may vary without end."""


class MetricLines:
    """Makes the lines of one exporter."""

    def __init__(self) -> None:
        self._pace = Pace()
        self._around: tuple[list[Any], list[str]] = [], []
        """Resources and scopes of the last line, and what they are as text."""
        self._metrics: dict[Any, tuple[str, str]] = {}
        """What stands before and after the points of a metric."""

    def encode(self, data: MetricsData) -> bytes:
        """``data`` as a line: what the official encoder makes of it."""
        first, *between = self._text_around(data)
        metrics = [
            ",".join(map(self._metric, scope.metrics))
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
        ]
        put = "".join(f"{found}{after}" for found, after in zip(metrics, between, strict=True))
        return f"{first}{put}\n".encode()

    def _text_around(self, data: MetricsData) -> list[str]:
        of = [
            each
            for resource in data.resource_metrics
            for each in (resource.resource, *(scope.scope for scope in resource.scope_metrics))
        ]
        known, text = self._around
        if not text or len(known) != len(of) or any(a is not b for a, b in zip(known, of, strict=True)):
            around = encode_metrics(without_metrics(data)).to_dict()
            for resource in around.get("resourceMetrics", ()):
                for scope in resource.get("scopeMetrics", ()):
                    scope["metrics"] = [HERE]
            text = as_json(around).split(as_json(HERE))
            self._around = of, text
        return text

    def _metric(self, metric: Metric) -> str:
        data = metric.data
        points = data.data_points
        if not points:
            return as_json(_official(metric))
        about = (metric.name, metric.description, metric.unit, type(data))
        key = (*about, getattr(data, "aggregation_temporality", None), getattr(data, "is_monotonic", None))
        around = self._metrics.get(key)
        if around is None:
            if len(self._metrics) >= _MOST:
                self._metrics.clear()
            around = self._metrics[key] = _around_points(metric)
        written = _WRITERS.get(type(data), lambda _: None)
        text = [
            written(each) or _points(metric, each) for some in self._pace.pieces(points, _AT_ONCE) for each in some
        ]
        return around[0] + ",".join(text) + around[1]


def _number(point: NumberDataPoint) -> str | None:
    return None if point.exemplars else _number_from(point, point.start_time_unix_nano)


def _gauge(point: NumberDataPoint) -> str | None:
    return None if point.exemplars else _number_from(point, None)


def _number_from(point: NumberDataPoint, start: int | None) -> str | None:
    value = point.value
    about = listed_attributes(point.attributes or {})  # type: ignore[arg-type]  # None for what is no ``Value``
    if about is None or not point.time_unix_nano:
        return None
    found = f'"asInt":"{value}"' if isinstance(value, int) else f'"asDouble":{double(value)}'
    return f'{{{about}{_start(start)}"timeUnixNano":"{point.time_unix_nano}",{found}}}'


def _histogram(point: HistogramDataPoint) -> str | None:
    about = listed_attributes(point.attributes or {})  # type: ignore[arg-type]  # as above
    if point.exemplars or about is None or not (point.time_unix_nano and point.count and point.explicit_bounds):
        return None
    counts = '","'.join(map(str, point.bucket_counts))
    bounds = ",".join(map(double, point.explicit_bounds))
    return (
        f'{{{about}{_start(point.start_time_unix_nano)}"timeUnixNano":"{point.time_unix_nano}",'
        f'"count":"{point.count}","sum":{double(point.sum)},"bucketCounts":["{counts}"],'
        f'"explicitBounds":[{bounds}],"min":{double(point.min)},"max":{double(point.max)}}}'
    )


def _start(time: int | None) -> str:
    return f'"startTimeUnixNano":"{time}",' if time else ""


_WRITERS: Final[dict[type, Any]] = {Sum: _number, Gauge: _gauge, Histogram: _histogram}
"""By type of metric, what writes a point; ``None`` where the official encoder has to."""


def _official(metric: Metric) -> Any:
    resource, scope = _NOWHERE
    alone = MetricsData([ResourceMetrics(resource, [ScopeMetrics(scope, [metric], "")], "")])
    return encode_metrics(alone).to_dict()["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0]


def _with_one(metric: Metric, point: Any) -> tuple[Any, dict[str, Any]]:
    """``metric`` with that point alone, and what holds it."""
    some: Any = [point]
    found = _official(replace(metric, data=replace(metric.data, data_points=some)))
    return found, next(about for about in found.values() if isinstance(about, dict) and "dataPoints" in about)


def _around_points(metric: Metric) -> tuple[str, str]:
    found, about = _with_one(metric, metric.data.data_points[0])
    about["dataPoints"] = [HERE]
    before, _, after = as_json(found).partition(as_json(HERE))
    return before, after


def _points(metric: Metric, point: Any) -> str:
    _, about = _with_one(metric, point)
    return as_json(about["dataPoints"])[1:-1]
