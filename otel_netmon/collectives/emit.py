"""Events to spans and metrics, in the background: nothing here runs on a training thread.

Metrics are fed as soon as an event is drained, whatever becomes of its span. A span waits until its step is
known; its parents' ids are computed, so it need not wait for the step to end.
"""

from __future__ import annotations

import functools
import time
from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from otel_netmon import semconv
from otel_netmon.collectives import identity
from otel_netmon.collectives.sink import MetricSink, RankIdentity, Series, rank_attributes

if TYPE_CHECKING:
    from otel_netmon.collectives.event import CollectiveEvent
    from otel_netmon.collectives.groups import Group
    from otel_netmon.collectives.operations import Operation
    from otel_netmon.collectives.spans import SpanMaker
    from otel_netmon.collectives.steps import Step

_REMEMBERED: Final = 1024
_NEVER: Final = 1 << 62
_REDUCE_OPS: Final = ("sum", "avg", "product", "min", "max", "band", "bor", "bxor", "premul_sum")


def reduce_op_name(script_object: Any) -> str | None:
    """Name of torch's ``ReduceOp`` object as its dispatcher hands it over; ``None`` if it does not say."""
    try:
        return _REDUCE_OPS[script_object.op()]
    except Exception:  # noqa: BLE001 - any object of any torch: absent, then
        return None


@functools.lru_cache(maxsize=256)
def _dtype_name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")


class Emitter:
    """Drained events in, spans and metrics out. Used by one thread at a time."""

    def __init__(self, sink: MetricSink, spans: SpanMaker, *, hold: int) -> None:
        self._sink = sink
        self._spans = spans
        self._hold = hold
        self.rank = RankIdentity()
        # One anchor from the monotonic clock to the epoch: a step of the wall clock cannot make a negative
        # duration, nor move a span out of its parent.
        self._epoch = time.time_ns() - time.monotonic_ns()
        self._series: dict[tuple[Group, Operation, bool], Series] = {}
        self._waiting: deque[CollectiveEvent] = deque()
        self._unemitted: deque[Step] = deque()
        self._ends: list[tuple[int, int]] = []
        """``(last tick, number)`` of the latest steps: an asynchronous collective may outlast its step."""
        self._first_start: dict[int, int] = {}
        self._verdicts: dict[int, bool] = {}
        self.lost = 0
        """Spans lost because no provider or run id came while more than ``hold`` events waited."""

    def take(self, events: list[CollectiveEvent]) -> None:
        """Feed the metrics; keep the events for their spans."""
        series = self._series_of
        self._sink.record([(event, series(event.group, event.operation, event.on_host)) for event in events])
        self._sink.record_overwritten(series)
        self._waiting.extend(events)
        while len(self._waiting) > self._hold:
            self._waiting.popleft()
            self.lost += 1

    def _series_of(self, group: Group, operation: Operation, on_host: bool) -> Series:
        key = (group, operation, on_host)
        series = self._series.get(key)
        if series is None:
            series = self._series[key] = Series(group, operation, on_host, self.rank)
        return series

    def emit(self, run_id: str | None, closed: list[Step], open_step: int, settled: int) -> None:
        """Make the spans whose step is known: of the waiting events, then of the steps that ended."""
        self._unemitted.extend(closed)
        if run_id is None or not self._spans.ready():
            while len(self._unemitted) > self._hold:
                self._unemitted.popleft()
            return
        for step in self._unemitted:
            self._ends.append((step.last_tick, step.index))
        del self._ends[:-_REMEMBERED]
        waiting, self._waiting = self._waiting, deque()
        for event in waiting:
            place = bisect_right(self._ends, (event.tick, _NEVER))
            if place < len(self._ends):
                self._emit_event(run_id, self._ends[place][1], event)
            elif event.tick <= settled:
                self._emit_event(run_id, open_step, event)
            else:
                self._waiting.append(event)
        while self._unemitted:
            self._emit_step(run_id, self._unemitted.popleft())

    def finish(self, run_id: str, last: Step) -> None:
        """Make the spans of the step that was open when the process ended, if anything happened in it."""
        if self._spans.ready() and last.index in self._first_start:
            self._emit_step(run_id, last)

    def _sampled(self, run_id: str, step: int) -> bool:
        verdict = self._verdicts.get(step)
        if verdict is None:
            verdict = self._spans.is_sampled(identity.trace_id(run_id, step), semconv.SPAN_TRAIN_STEP)
            self._verdicts[step] = verdict
            if len(self._verdicts) > _REMEMBERED:
                del self._verdicts[next(iter(self._verdicts))]
        return verdict

    def _emit_event(self, run_id: str, step: int, event: CollectiveEvent) -> None:
        self._first_start[step] = min(event.start, self._first_start.get(step, event.start))
        if len(self._first_start) > _REMEMBERED:  # of steps that were emitted before their last collective
            del self._first_start[next(iter(self._first_start))]
        if not self._sampled(run_id, step):
            return
        series = self._series_of(event.group, event.operation, event.on_host)
        self._spans.emit(
            series.operation,
            trace_id=identity.trace_id(run_id, step),
            parent_id=identity.rank_step_id(run_id, step, self.rank.rank),
            start=event.start + self._epoch,
            end=(time.monotonic_ns() if event.end is None else event.end) + self._epoch,
            attributes=event_attributes(event, series),
            error=event.error is not None,
        )

    def _emit_step(self, run_id: str, step: Step) -> None:
        first = self._first_start.pop(step.index, step.start)
        sampled = self._sampled(run_id, step.index)
        self._verdicts.pop(step.index, None)
        if not sampled:
            return
        attributes = {semconv.STEP: step.index, semconv.RUN_ID: run_id, **rank_attributes(self.rank)}
        if not step.complete:
            attributes[semconv.STEP_INCOMPLETE] = True
        trace_id = identity.trace_id(run_id, step.index)
        root = identity.train_step_id(run_id, step.index)
        start, end = min(first, step.start) + self._epoch, step.end + self._epoch
        for name, span_id, parent_id in (
            (semconv.SPAN_RANK_STEP, identity.rank_step_id(run_id, step.index, self.rank.rank), root),
            (semconv.SPAN_TRAIN_STEP, root, None),
        ):
            if parent_id is not None or self.rank.rank == 0:
                self._spans.emit(
                    name,
                    trace_id=trace_id,
                    span_id=span_id,
                    parent_id=parent_id,
                    start=start,
                    end=end,
                    attributes=attributes,
                    links=self._spans.links,
                )


def event_attributes(event: CollectiveEvent, series: Series) -> dict[str, Any]:
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
        name = reduce_op_name(event.reduce_op)
        if name is not None:
            attributes[semconv.COLLECTIVE_REDUCE_OP] = name
    if event.is_async is not None:
        attributes[semconv.COLLECTIVE_ASYNC] = event.is_async
    if event.error is not None:
        attributes[semconv.ERROR_TYPE] = event.error
    if event.end is None:
        attributes[semconv.COLLECTIVE_STATE] = semconv.STATE_IN_FLIGHT
    elif event.is_late:
        attributes[semconv.COLLECTIVE_STATE] = semconv.STATE_LATE
    elif event.on_host and event.error is None and event.end > event.start and event.size:
        algbw = event.size * 1e9 / (event.end - event.start)
        attributes[semconv.COLLECTIVE_ALGBW] = algbw
        if series.factor is not None and event.is_even:
            attributes[semconv.COLLECTIVE_BUSBW] = algbw * series.factor
    return attributes
