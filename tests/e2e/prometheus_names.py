"""What Prometheus calls our metrics, by OpenTelemetry's rules of translation."""

from __future__ import annotations

import re

from otel_netmon import semconv

_UNITS = {"s": "seconds", "By": "bytes", "By/s": "bytes_per_second"}


def prometheus_name(metric: semconv.Metric) -> str:
    """The name without ``_bucket``, ``_sum`` and ``_count``. Units in braces are left out."""
    name = re.sub(r"[^a-zA-Z0-9:]+", "_", metric.name)
    unit = _UNITS.get(metric.unit, "")
    if metric.unit == "1" and metric.kind.endswith("gauge"):
        unit = "ratio"
    if unit and not name.endswith("_" + unit):
        name += "_" + unit
    if metric.kind in ("counter", "observable_counter"):
        name = name.removesuffix("_total") + "_total"
    return name
