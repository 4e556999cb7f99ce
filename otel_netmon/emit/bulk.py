"""A histogram that takes a whole ``Distribution`` at once.

The API has no such call: ``record`` takes one value, for some eight microseconds. This is one of the places that
look below the SDK's public surface (``spans`` and ``finished_spans`` are the others). Where the SDK is not as
expected, or the user changed what is aggregated (a view, delta temporality, another SDK), each value goes
through ``record``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from otel_netmon import semconv

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
        try:
            aggregations = self._aggregations(distribution, attributes)
        except Exception:  # noqa: BLE001 - another SDK, or another version of it
            aggregations = None
        if aggregations is None:
            for value in distribution.values():
                self.instrument.record(value, attributes)
            return
        for aggregation in aggregations:
            _merge(distribution, aggregation)

    def _aggregations(self, distribution: Distribution, attributes: Mapping[str, str]) -> list[Any] | None:
        """Where each reader keeps this series; ``None`` when one has none yet, or keeps it in another form."""
        from opentelemetry.sdk.metrics._internal.aggregation import _ExplicitBucketHistogramAggregation

        instrument = getattr(self.instrument, "_real_instrument", None) or self.instrument
        if hasattr(instrument, "_is_enabled") and not instrument._is_enabled():
            return None
        found = []
        for storage in list(instrument._measurement_consumer._reader_storages.values()):
            for match in storage._get_or_init_view_instrument_match(instrument):
                if getattr(match, "_reset_on_collect", False):  # it drops its aggregations at each collection
                    return None
                same = [a for a in list(match._attributes_aggregation.values()) if a._attributes == attributes]
                if len(same) != 1 or not (
                    type(same[0]) is _ExplicitBucketHistogramAggregation
                    and tuple(same[0]._boundaries) == distribution.boundaries
                    and all(hasattr(same[0], name) for name in _FIELDS)
                ):
                    return None
                found += same
        return found


_FIELDS = ("_lock", "_value", "_sum", "_min", "_max", "_record_min_max")


def _merge(distribution: Distribution, aggregation: Any) -> None:
    """What ``_ExplicitBucketHistogramAggregation.aggregate`` does, for all values at once."""
    with aggregation._lock:
        counts = aggregation._value or [0] * len(distribution.counts)
        aggregation._value = [a + b for a, b in zip(counts, distribution.counts, strict=True)]
        aggregation._sum += sum(distribution.sums)
        if aggregation._record_min_max:
            aggregation._min = min(aggregation._min, distribution.least)
            aggregation._max = max(aggregation._max, distribution.greatest)
