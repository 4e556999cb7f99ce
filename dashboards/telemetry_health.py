"""The dashboard of the telemetry itself: what was lost, what waits, which monitors fail."""

from __future__ import annotations

from typing import Final

from dashboards.model import JOB, Dashboard, simple
from otel_netmon import semconv

HEALTH: Final = Dashboard(
    "telemetry-health",
    "otel-netmon: telemetry health",
    (("host", "host_name", semconv.MONITOR_SUCCESS),),
    (
        (
            "Losses and delivery",
            (
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
                    "job",
                    "otel_netmon_delivery_signal",
                    "error_type",
                    where=JOB,
                ),
                simple(
                    semconv.DELIVERED_ITEMS,
                    "Delivered",
                    "ops",
                    "Spans, data points and log records.",
                    "job",
                    "otel_netmon_delivery_signal",
                    where=JOB,
                ),
                simple(
                    semconv.DELIVERY_RETRIES,
                    "Retries",
                    "ops",
                    "Failed attempts to export that are retried.",
                    "job",
                    "otel_netmon_delivery_signal",
                    where=JOB,
                ),
                simple(
                    semconv.SPOOL_SIZE,
                    "Waiting on disk",
                    "bytes",
                    "Largest spool of any process.",
                    "job",
                    "otel_netmon_delivery_signal",
                    where=JOB,
                ),
            ),
        ),
        (
            "Monitors",
            (
                simple(
                    semconv.MONITOR_SUCCESS,
                    "Last round",
                    "short",
                    "1: the last round worked. If not, the log of the process says why.",
                    "host_name",
                    "otel_netmon_monitor_name",
                ),
                simple(
                    semconv.MONITOR_DURATION,
                    "Duration of a round",
                    "s",
                    "Longest of any process.",
                    "host_name",
                    "otel_netmon_monitor_name",
                ),
                simple(
                    semconv.MONITOR_AGE,
                    "Age of the last sample",
                    "s",
                    "Time since the last round that worked.",
                    "host_name",
                    "otel_netmon_monitor_name",
                ),
            ),
        ),
    ),
)
