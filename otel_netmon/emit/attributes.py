"""Captured collectives and what a rank did in an interval, as records. What is not known is ``None``."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from otel_netmon import semconv
from otel_netmon.bandwidth import rates
from otel_netmon.records import Collective, InFlight, Pause, RankStep, ResourceUsage

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.emit.attribute_sets import AttributeSet
    from otel_netmon.emit.interval_stats import IntervalStats
    from otel_netmon.emit.intervals import Interval
    from otel_netmon.job.roles import RankIdentity
    from otel_netmon.job.steps import HeldUp, Step


@functools.lru_cache(maxsize=256)
def _dtype_name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


def collective(event: CollectiveEvent, about: AttributeSet) -> Collective:
    """The record of an event; ids and times are its span's."""
    kind, on_device = event.kind, event.device_duration
    dtype, size = kind.dtype, kind.size
    algbw = busbw = None
    if size and event.error is None and (duration := event.duration):
        algbw, busbw = rates(size, duration, about.factor if kind.is_even else None)
    return Collective(
        *about.known,
        semconv.CLOCK_HOST if on_device is None else semconv.CLOCK_DEVICE,
        None if kind.operation.buffer is None else size,
        event.sequence,
        None if dtype is None else _dtype_name(dtype),
        None if dtype is None else size // dtype.itemsize,
        kind.reduce_op,
        kind.is_async,
        event.error,
        event.error_message,
        semconv.STATE_IN_FLIGHT if event.end is None else semconv.STATE_LATE if event.is_late else None,
        None if on_device is None else on_device / 1e9,
        None if on_device is not None or event.device_bound is None else event.device_bound / 1e9,
        algbw,
        busbw,
    )


def in_flight(event: CollectiveEvent, rank: RankIdentity, now: int) -> InFlight:
    """The record of an event that had not ended at ``now``, in nanoseconds of the monotonic clock."""
    group = event.group
    return InFlight(
        event.operation.name,
        group.name,
        event.sequence,
        event.size if event.operation.buffer is not None else None,
        max(0, now - event.start) / 1e9,
        group.serving_backend(event.on_host),
        group.size or None,
        rank.rank,
        rank.local_rank,
        rank.world_size,
    )


def rank_step(
    interval: Interval,
    rank: RankIdentity,
    stats: IntervalStats | None,
    step: Step | None,
    bounds: tuple[int, int],
) -> RankStep:
    """The record of an interval, whose start and end are in nanoseconds of the monotonic clock as the record's own
    are; ``stats`` where there were collectives, of which one may have begun before; ``step`` where it was one."""
    start, end = bounds
    sums = None if stats is None else stats.sums(start, end)
    since = start if sums is None else min(sums.first, start)
    used = ResourceUsage() if step is None else step.used
    is_incomplete = step is not None and not step.complete
    return RankStep(
        interval.kind,
        rank=rank.rank,
        local_rank=rank.local_rank,
        world_size=rank.world_size,
        step=interval.number if interval.kind == semconv.SPAN_TRAIN_STEP else None,
        incomplete=is_incomplete or None,
        first_collective=None if sums is None or sums.first < start else (sums.first - start) / 1e9,
        collective_count=0 if sums is None else sums.call_count,
        collective_size=0 if sums is None else sums.size,
        collective_time=0.0 if sums is None else sums.busy / 1e9,
        issue_time=None if sums is None or step is None else _seconds(sums.issuing),
        wait_time=_seconds(used.wait),
        gc_time=_seconds(used.gc),
        data_time=_seconds(used.data),
        cpu_time=_seconds(used.cpu),
        run_queue_time=_seconds(used.run_queue),
        throttled_time=_seconds(used.throttled),
        switches_voluntary=used.voluntary,
        switches_involuntary=used.involuntary,
        groups=() if sums is None else sums.groups,
        calls=() if sums is None else sums.calls,
        pauses=() if step is None else tuple(_pause(each, since) for each in step.pauses),
        start=since,
        end=end,
    )


def _pause(one: HeldUp, since: int) -> Pause:
    return Pause(one.kind, max(0, one.start - since) // 1000, one.duration // 1000)


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9
