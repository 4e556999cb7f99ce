"""A histogram that takes a whole ``Distribution`` at once.

The API has no such call: ``record`` takes one value, for some eight microseconds. Where the SDK is not as
expected, or the user changed what is aggregated (a view, delta temporality, another SDK), each value goes through
``record``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from otel_netmon import semconv
from otel_netmon.internals.otel_internals import add_to_point, histogram_points

if TYPE_CHECKING:
    from opentelemetry.metrics import Meter

    from otel_netmon.capture.aggregator import Distribution


class BulkHistogram:
    """The histogram that ``metric`` describes. Used by one thread at a time."""

    def __init__(self, meter: Meter, metric: semconv.Metric) -> None:
        self.instrument: Any = semconv.create(meter, metric)

    def record(self, distribution: Distribution, attributes: Mapping[str, str]) -> None:
        """Record all values of ``distribution``: the points come out as if each had been recorded."""
        if not any(distribution.counts):
            return
        points = histogram_points(self.instrument, attributes, distribution.boundaries)
        if points is None:
            for value in distribution.values():
                self.instrument.record(value, attributes)
            return
        total = sum(distribution.sums)
        for point in points:
            add_to_point(point, distribution.counts, total, distribution.least, distribution.greatest)
