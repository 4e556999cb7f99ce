"""How the telemetry itself fares."""

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
            "What was lost",
            (
                simple(
                    semconv.EVENTS_DROPPED,
                    "Spans that were never made",
                    "ops",
                    "By reason; metrics still count them.",
                    "job",
                    "otel_netmon_drop_reason",
                    where=JOB,
                ),
                simple(
                    semconv.LOST_ITEMS,
                    "Lost on the way",
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
                    "Attempts that a collector did not take.",
                    "job",
                    "otel_netmon_delivery_signal",
                    where=JOB,
                ),
                simple(
                    semconv.SPOOL_SIZE,
                    "Waiting on disk",
                    "bytes",
                    "The most of any process.",
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
                    "1: it worked. The process's log says why not.",
                    "host_name",
                    "otel_netmon_monitor_name",
                ),
                simple(
                    semconv.MONITOR_DURATION,
                    "Duration of a round",
                    "s",
                    "The longest of any process.",
                    "host_name",
                    "otel_netmon_monitor_name",
                ),
                simple(
                    semconv.MONITOR_AGE,
                    "Age of what is shown",
                    "s",
                    "Since the last round that worked.",
                    "host_name",
                    "otel_netmon_monitor_name",
                ),
            ),
        ),
    ),
)
