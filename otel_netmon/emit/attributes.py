"""What the spans say: an event, and the sums of a period, as attributes. What is not known is absent."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from otel_netmon import semconv
from otel_netmon.emit.intervals import IntervalStats
from otel_netmon.records import ResourceUsage

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.emit.metrics import AttributeSet
    from otel_netmon.records import PeerTraffic


_NANO: Final = 1e9
_USAGE: Final = (
    (semconv.STEP_WAIT_TIME, _NANO),
    (semconv.STEP_GC_TIME, _NANO),
    (semconv.STEP_DATA_TIME, _NANO),
    (semconv.STEP_CPU_TIME, _NANO),
    (semconv.STEP_RUN_QUEUE_TIME, _NANO),
    (semconv.STEP_SWITCHES_VOLUNTARY, None),
    (semconv.STEP_SWITCHES_INVOLUNTARY, None),
)


@functools.lru_cache(maxsize=256)
def _dtype_name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def pair_attributes(reading: PeerTraffic) -> dict[str, Any]:
    """What moved between this rank and another."""
    values = ((each.name, getattr(reading, field)) for field, each in semconv.PAIR_ATTRIBUTES.items())
    return {name: value for name, value in values if value is not None}


def stats_attributes(sums: IntervalStats | None, start: int, end: int) -> dict[str, Any]:
    """What a rank's span says of the collectives between ``start`` and ``end``; ``None``: there were none."""
    if sums is None:
        return {
            semconv.STEP_COLLECTIVE_COUNT: 0,
            semconv.STEP_COLLECTIVE_SIZE: 0,
            semconv.STEP_COLLECTIVE_TIME: 0.0,
        }
    attributes = {
        semconv.STEP_COLLECTIVE_COUNT: sums.count,
        semconv.STEP_COLLECTIVE_SIZE: sums.size,
        semconv.STEP_COLLECTIVE_TIME: sums.busy(end) / 1e9,
    }
    if sums.first >= start:
        attributes[semconv.STEP_FIRST_COLLECTIVE] = (sums.first - start) / 1e9
    return attributes


def usage_attributes(used: ResourceUsage) -> dict[str, float | int]:
    """``used`` as span attributes, in seconds and counts."""
    return {
        name: value if unit is None else value / unit
        for (name, unit), value in zip(_USAGE, used, strict=True)
        if value is not None
    }


def event_attributes(event: CollectiveEvent, series: AttributeSet) -> dict[str, Any]:
    """The span attributes of an event; what was not recorded is absent."""
    attributes = dict(series.span)
    if event.operation.buffer is not None:
        attributes[semconv.COLLECTIVE_SIZE] = event.size
    if event.sequence is not None:
        attributes[semconv.COLLECTIVE_SEQUENCE] = event.sequence
    if event.dtype is not None:
        attributes[semconv.COLLECTIVE_DTYPE] = _dtype_name(event.dtype)
        attributes[semconv.COLLECTIVE_ELEMENT_COUNT] = event.size // event.dtype.itemsize
    if event.reduce_op is not None:
        attributes[semconv.COLLECTIVE_REDUCE_OP] = event.reduce_op
    if event.is_async is not None:
        attributes[semconv.COLLECTIVE_ASYNC] = event.is_async
    if event.error is not None:
        attributes[semconv.ERROR_TYPE] = event.error
    if event.end is None:
        attributes[semconv.COLLECTIVE_STATE] = semconv.STATE_IN_FLIGHT
    elif event.is_late:
        attributes[semconv.COLLECTIVE_STATE] = semconv.STATE_LATE
    return attributes | _times(event, series)


def _times(event: CollectiveEvent, series: AttributeSet) -> dict[str, Any]:
    attributes: dict[str, Any] = {}
    if event.device_duration is not None:
        attributes[semconv.COLLECTIVE_CLOCK] = semconv.CLOCK_DEVICE
        attributes[semconv.COLLECTIVE_DEVICE_DURATION] = event.device_duration / 1e9
    elif event.device_bound is not None:
        attributes[semconv.COLLECTIVE_DEVICE_BOUND] = event.device_bound / 1e9
    duration = event.duration
    if duration and event.size and event.error is None:
        algbw = event.size * 1e9 / duration
        attributes[semconv.COLLECTIVE_ALGBW] = algbw
        if series.factor is not None and event.is_even:
            attributes[semconv.COLLECTIVE_BUSBW] = algbw * series.factor
    return attributes
