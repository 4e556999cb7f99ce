"""The dashboard of the telemetry itself: what was lost, what waits, which monitors fail."""

from __future__ import annotations

from typing import Final

from dashboards.model import JOB, Dashboard, simple
from otel_netmon import semconv

_SIGNAL = ("job", "otel_netmon_delivery_signal")
_MONITOR = ("host_name", "otel_netmon_monitor_name")

_DELIVERY: Final = (
    simple(
        semconv.EVENTS_DROPPED,
        "Spans lost before export",
        "ops",
        "By reason. The metrics still count these collectives.",
        "job",
        "otel_netmon_drop_reason",
        where=JOB,
    ),
    simple(
        semconv.LOST_ITEMS,
        "Lost in delivery",
        "ops",
        "Spans, data points and log records, by reason.",
        *_SIGNAL,
        "error_type",
        where=JOB,
    ),
    simple(
        semconv.DELIVERED_ITEMS, "Delivered", "ops", "Spans, data points and log records.", *_SIGNAL, where=JOB
    ),
    simple(
        semconv.DELIVERY_RETRIES,
        "Retries",
        "ops",
        "Failed attempts to export that are retried.",
        *_SIGNAL,
        where=JOB,
    ),
    simple(semconv.SPOOL_SIZE, "Waiting on disk", "bytes", "Largest spool of any process.", *_SIGNAL, where=JOB),
)

_MONITORS: Final = (
    simple(
        semconv.MONITOR_SUCCESS,
        "Last round",
        "short",
        "1: the last round worked. If not, the log of the process says why.",
        *_MONITOR,
    ),
    simple(semconv.MONITOR_DURATION, "Duration of a round", "s", "Longest of any process.", *_MONITOR),
    simple(
        semconv.MONITOR_AGE, "Age of the last sample", "s", "Time since the last round that worked.", *_MONITOR
    ),
)

HEALTH: Final = Dashboard(
    "telemetry-health",
    "otel-netmon: telemetry health",
    (("host", "host_name", semconv.MONITOR_SUCCESS),),
    (("Losses and delivery", _DELIVERY), ("Monitors", _MONITORS)),
)
