"""Metrics as lines of OTLP JSON: what the official encoder makes of them, without its garbage."""

from __future__ import annotations

import gc
import json
from typing import Any

import pytest
from opentelemetry.exporter.otlp.json.common.metrics_encoder import encode_metrics
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import Exemplar, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_netmon.delivery.metric_lines import MetricLines


@pytest.fixture
def collection() -> MetricsData:
    """Every kind of metric, with few points and with many, in two scopes."""

    def gauge(_: CallbackOptions) -> list[Observation]:
        return [Observation(number / 7, {"number": number, "even": number % 2 == 0}) for number in range(100)]

    reader = InMemoryMetricReader()
    fine = View(instrument_name="fine", aggregation=ExponentialBucketHistogramAggregation())
    provider = MeterProvider([reader], Resource({"service.name": "träin"}), views=[fine], shutdown_on_exit=False)
    one, two = provider.get_meter("one", "1"), provider.get_meter("two", "2", "https://example.org/schema")
    one.create_observable_gauge("gauge", [gauge], "By", "a description")
    one.create_counter("counter").add(3)
    for number in range(20):
        two.create_histogram("histogram", "s").record(number / 3, {"group": f"ü{number}"})
        two.create_histogram("fine").record(number / 3)
        two.create_up_down_counter("balance").add(-number, {"number": str(number)})
    data = reader.get_metrics_data()
    assert data is not None
    return data


def test_whatever_a_point_holds() -> None:
    """Other numbers, no attributes, lists of values, extremes that were not recorded, exemplars."""
    seen = [Exemplar({"a": 1}, 2.5, 7, 1, 2)]
    values = (0, -3, 2**62, 0.0, 1e300, float("nan"), float("inf"), float("-inf"), True)
    numbers = [NumberDataPoint({"key": "v"}, 5, 7, value) for value in values]
    numbers += [
        NumberDataPoint({}, 0, 7, 1),
        NumberDataPoint({"list": (1, 2)}, 5, 7, 1),
        NumberDataPoint({}, 5, 0, 1),
    ]
    numbers += [NumberDataPoint({"a": 1.5}, 5, 7, 1, seen)]
    few: Any = [(10, [1, 2, 7], [0.5, 1.0], 0.1, 2.0), (0, [0], [], float("inf"), float("-inf"))]
    histograms = [
        HistogramDataPoint({"ü": True}, 5, 7, count, 3.5, counts, bounds, least, most, some)
        for count, counts, bounds, least, most in few
        for some in ([], seen)
    ]
    metrics = [
        Metric("sum", None, "1", Sum(numbers, AggregationTemporality.CUMULATIVE, True)),
        Metric("sum", None, "1", Sum(numbers, AggregationTemporality.DELTA, False)),
        Metric("gauge", "text", None, Gauge(numbers)),
        Metric("empty", "", "", Gauge([])),
        Metric("histogram", "", "s", Histogram(histograms, AggregationTemporality.DELTA)),
    ]
    scope = ScopeMetrics(InstrumentationScope("a"), metrics, "")
    data = MetricsData([ResourceMetrics(Resource({"x": 1}), [scope], "")])
    found = json.loads(MetricLines().encode(data))
    assert json.dumps(found, sort_keys=True) == json.dumps(official(data), sort_keys=True)


def official(data: MetricsData) -> Any:
    return json.loads(json.dumps(encode_metrics(data).to_dict()))


def test_a_line_is_what_the_official_encoder_makes(collection: MetricsData) -> None:
    lines = MetricLines()
    for _ in range(2):  # what is around the points is made, then used
        line = lines.encode(collection)
        assert line.endswith(b"\n") and line.count(b"\n") == 1
        assert json.loads(line) == official(collection)
    assert len(json.loads(line)["resourceMetrics"][0]["scopeMetrics"]) == 2


def test_nothing_at_all_is_a_line_too() -> None:
    assert json.loads(MetricLines().encode(MetricsData([]))) == official(MetricsData([]))


def test_a_line_leaves_the_garbage_collector_alone(collection: MetricsData) -> None:
    lines = MetricLines()
    lines.encode(collection)
    gc.collect()
    before = gc.get_stats()[0]["collections"]
    for _ in range(20):
        lines.encode(collection)
    assert gc.get_stats()[0]["collections"] == before
