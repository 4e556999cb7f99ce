"""A collection of metrics in pieces of a few points, for the official encoders to encode one after the other.

Those make ten to twenty objects of a point. If those of a collection were alive together, Python's garbage
collector would look for cycles among them and, now and then, among all objects of the process: with torch
imported, that stops the training for 0.2 s. And hundreds of points at once keep the interpreter lock for
milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from opentelemetry.sdk.metrics.export import Metric, MetricsData, ResourceMetrics, ScopeMetrics
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_netmon.threads import Pace

_AT_ONCE: Final = 8
"""Points."""
_NOWHERE: Final = Resource({}), InstrumentationScope("")


def without_metrics(data: MetricsData) -> MetricsData:
    """The resources and scopes of ``data``."""
    return MetricsData(
        [
            replace(resource, scope_metrics=[replace(scope, metrics=()) for scope in resource.scope_metrics])
            for resource in data.resource_metrics
        ]
    )


def pieces(metric: Metric, pace: Pace) -> Iterator[MetricsData]:
    """``metric`` alone, with some of its points each, at least once."""
    resource, scope = _NOWHERE
    points = metric.data.data_points
    for first in range(0, max(1, len(points)), _AT_ONCE):
        pace.give_way()
        some: Any = points[first : first + _AT_ONCE]
        piece = replace(metric, data=replace(metric.data, data_points=some))
        yield MetricsData([ResourceMetrics(resource, [ScopeMetrics(scope, [piece], "")], "")])
