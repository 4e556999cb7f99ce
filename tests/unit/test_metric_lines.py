"""Metrics as lines of OTLP JSON: what the official encoder makes of them, without its garbage."""

from __future__ import annotations

import gc
import json
from typing import Any

import pytest
from opentelemetry.exporter.otlp.json.common.metrics_encoder import encode_metrics
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource

from otel_netmon.delivery.metric_lines import metrics_line


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


def official(data: MetricsData) -> Any:
    return json.loads(json.dumps(encode_metrics(data).to_dict()))


def test_a_line_is_what_the_official_encoder_makes(collection: MetricsData) -> None:
    line = metrics_line(collection)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert json.loads(line) == official(collection)
    assert len(json.loads(line)["resourceMetrics"][0]["scopeMetrics"]) == 2


def test_nothing_at_all_is_a_line_too() -> None:
    assert json.loads(metrics_line(MetricsData([]))) == official(MetricsData([]))


def test_a_line_leaves_the_garbage_collector_alone(collection: MetricsData) -> None:
    gc.collect()
    before = gc.get_stats()[0]["collections"]
    for _ in range(20):
        metrics_line(collection)
    assert gc.get_stats()[0]["collections"] == before
