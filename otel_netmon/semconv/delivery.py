"""Metrics of delivery: what a collector accepted, what was lost, what waits."""

from __future__ import annotations

from typing import Final

from opentelemetry.semconv.attributes import error_attributes as _error

from otel_netmon.semconv.model import counter, gauge

SCOPE_DELIVERY: Final = "otel_netmon.delivery"

DELIVERY_SIGNAL: Final = "otel_netmon.delivery.signal"
DELIVERY_REASON: Final = _error.ERROR_TYPE

REASON_SPOOL_FULL: Final = "spool_full"
REASON_SPOOL_DAMAGED: Final = "spool_damaged"
REASON_NO_SPOOL: Final = "no_spool"
REASON_PARTIAL: Final = "partial_success"
REASON_OTHER: Final = _error.ErrorTypeValues.OTHER.value

DELIVERED_ITEMS: Final = counter(
    "otel_netmon.delivery.delivered",
    "{item}",
    "Spans, data points or log records that a collector accepted.",
    (DELIVERY_SIGNAL,),
)
LOST_ITEMS: Final = counter(
    "otel_netmon.delivery.lost",
    "{item}",
    "Spans, data points or log records that were lost: rejected by the collector (`HTTP 400`, `partial_success`, "
    "…), or dropped here (`spool_full`, `spool_damaged`, `no_spool`).",
    (DELIVERY_SIGNAL, DELIVERY_REASON),
)
DELIVERY_RETRIES: Final = counter(
    "otel_netmon.delivery.retries", "{attempt}", "Failed attempts to export that are retried.", (DELIVERY_SIGNAL,)
)
SPOOL_SIZE: Final = gauge(
    "otel_netmon.delivery.spool.size",
    "By",
    "Size of the telemetry that waits on disk for a collector.",
    (DELIVERY_SIGNAL,),
)
