"""Events to spans and metrics, in the background: nothing here runs on a training thread.

Metrics are fed as soon as an event is drained, whatever becomes of its span. A span waits until its step is
known; its parents' ids are computed, so it need not wait for the step to end.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from otel_netmon import peers, runtime, semconv
from otel_netmon.collectives import identity, readings
from otel_netmon.collectives.attributes import event_attributes, pair_attributes, sums_attributes
from otel_netmon.collectives.periods import Calendar, Period, Sums, of_step
from otel_netmon.collectives.rank import RankIdentity, rank_attributes
from otel_netmon.collectives.sink import MOST_SERIES, MetricSink, Series
from otel_netmon.collectives.spans import link_to
from otel_netmon.collectives.stalls import Stalls
from otel_netmon.collectives.steps import SETUP, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_netmon.collectives.event import CollectiveEvent
    from otel_netmon.collectives.groups import Group
    from otel_netmon.collectives.operations import Operation
    from otel_netmon.collectives.spans import SpanMaker

_logger = logging.getLogger(__name__)

_REMEMBERED: Final = 1024
_NEVER: Final = 1 << 62
_PATIENCE: Final = 5_000_000_000
"""Nanoseconds that an ended step waits for its collectives: what comes later is not in its sums."""

_SLACK: Final = 500_000_000
"""Nanoseconds by which a reading of connections may be older than the period that shows it."""

_ON_RANK: Final = {
    semconv.SPAN_TRAIN_STEP: semconv.SPAN_RANK_STEP,
    semconv.SPAN_SETUP: semconv.SPAN_RANK_SETUP,
    semconv.SPAN_WINDOW: semconv.SPAN_RANK_WINDOW,
}
_FIRST: Final = (of_step(SETUP), of_step(0))


class Emitter:
    """Drained events in, spans and metrics out. Used by one thread at a time."""

    def __init__(
        self,
        sink: MetricSink,
        spans: SpanMaker,
        *,
        hold: int,
        trace_every: int = 1,
        window: int = 0,
        stall_after: float = 0.0,
    ) -> None:
        self._stalls = Stalls(stall_after)
        self._sink = sink
        self._spans = spans
        self._hold = hold
        self._trace_every = trace_every
        self.rank = RankIdentity()
        self.attempt = 0
        # One anchor from the monotonic clock to the epoch: a step of the wall clock cannot make a negative
        # duration, nor move a span out of its parent.
        self._epoch = time.time_ns() - time.monotonic_ns()
        self._calendar = Calendar(self._epoch, window)
        self._series: dict[tuple[Group, Operation, bool], Series] = {}
        self._waiting: deque[CollectiveEvent] = deque()
        self._steps: deque[Step] = deque()
        """Ended, and not emitted yet."""
        self._sums: dict[Period, Sums] = {}
        self._verdicts: dict[Period, bool] = {}
        self.lost = 0
        """Spans lost: no provider or run id came while more than ``hold`` waited, or the provider failed."""

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
            if len(self._series) > MOST_SERIES:  # groups that came and went
                del self._series[next(iter(self._series))]
        return series

    def marks(self, closed: list[Step], open_step: int, settled: int, unmarked: int = 0) -> None:
        """What ``StepTracker`` said: call this before the events that it is about are taken."""
        for step in closed:
            self._calendar.closed(step)
        self._steps.extend(closed)
        while len(self._steps) > self._hold:
            self._steps.popleft()
        crowded = len(self._waiting) > self._hold // 2
        self._calendar.now(open_step, settled, _NEVER if unmarked and crowded else unmarked)

    def emit(self, run_id: str | None) -> None:
        """Make the spans of the waiting events whose slice is known."""
        if run_id is None or not self._spans.ready():
            return
        waiting, self._waiting = self._waiting, deque()
        for event in waiting:
            period = self._calendar.of(event)
            if period is None:
                self._waiting.append(event)
            else:
                self._counted(self._emit_event, run_id, period, event)

    def emit_periods(self, run_id: str | None, in_flight: int | None) -> None:
        """Make the spans of the steps and windows that ended.

        A step waits for its collectives: ``in_flight`` is the lowest tick of those that have not ended.
        """
        if run_id is None or not self._spans.ready():
            return
        now = time.monotonic_ns()
        while self._steps:
            step = self._steps[0]
            if in_flight is not None and in_flight < step.last_tick and now - step.end < _PATIENCE:
                break
            self._counted(self._emit_step, run_id, self._steps.popleft())
        for period in [period for period in self._sums if self._calendar.ended(period, now - _PATIENCE)]:
            self._counted(self._emit_period, run_id, period, *self._calendar.bounds(period))

    def _counted(self, make: Callable[..., None], *about: Any) -> None:
        """Make spans. Samplers and processors are the user's: what they raise costs those spans, and no others."""
        try:
            make(*about)
        except Exception as error:  # noqa: BLE001  # law 1, see above
            self.lost += 1
            runtime.log_once(_logger, error, "otel-netmon: a span is lost, its sampler or processor failed")

    def stalled(self, run_id: str | None, in_flight: list[CollectiveEvent]) -> None:
        """Tell of collectives that hang."""
        if run_id is not None and in_flight:
            self._stalls.look(in_flight, lambda event: self._ids(run_id, event), rank_attributes(self.rank))

    def _ids(self, run_id: str, event: CollectiveEvent) -> tuple[int, int]:
        """Of the span that it will have; its step is the one that is open, as long as it is not known."""
        period = self._calendar.of(event) or self._calendar.open
        span_id = identity.collective_id(run_id, self.rank.rank, event.group.name, event.sequence)
        return identity.trace_id(run_id, period.key), span_id

    def finish(self, run_id: str, last: Step) -> None:
        """Make the spans of what was open when the process ended, if anything happened in it."""
        if not self._spans.ready():
            return
        if of_step(last.index) in self._sums:
            self._emit_step(run_id, last)
        for period in list(self._sums):
            if period.kind == semconv.SPAN_WINDOW:
                start, end = self._calendar.bounds(period)
                self._emit_period(run_id, period, start, min(end, time.monotonic_ns()))

    def _sampled(self, run_id: str, period: Period) -> bool:
        verdict = self._verdicts.get(period)
        if verdict is None:
            verdict = (
                period.kind != semconv.SPAN_TRAIN_STEP or period.number % self._trace_every == 0
            ) and self._spans.is_sampled(identity.trace_id(run_id, period.key), period.kind)
            self._verdicts[period] = verdict
            if len(self._verdicts) > _REMEMBERED:
                del self._verdicts[next(iter(self._verdicts))]
        return verdict

    def _emit_event(self, run_id: str, period: Period, event: CollectiveEvent) -> None:
        sums = self._sums.get(period)
        if sums is None:
            sums = self._sums[period] = Sums(event.start)
            if len(self._sums) > _REMEMBERED:  # of steps that were emitted before their last collective
                del self._sums[next(iter(self._sums))]
        sums.add(event)
        if not self._sampled(run_id, period):
            return
        series = self._series_of(event.group, event.operation, event.on_host)
        self._spans.emit(
            series.operation,
            trace_id=identity.trace_id(run_id, period.key),
            parent_id=identity.rank_id(run_id, period.key, self.rank.rank),
            span_id=self._stalls.span_id(event),
            start=event.start + self._epoch,
            end=(time.monotonic_ns() if event.end is None else event.end) + self._epoch,
            attributes=event_attributes(event, series),
            error=event.error is not None,
        )

    def _emit_step(self, run_id: str, step: Step) -> None:
        period = of_step(step.index)
        if step.index == SETUP and period not in self._sums:
            return  # nothing was communicated
        self._emit_period(run_id, period, step.start, step.end, step)

    def _emit_period(self, run_id: str, period: Period, start: int, end: int, step: Step | None = None) -> None:
        sums = self._sums.pop(period, None)
        summed = sums_attributes(sums, start, end)
        if step is not None and step.complete and period.kind == semconv.SPAN_TRAIN_STEP:
            first = start if sums is None else min(sums.first, start)
            self._sink.record_step((end - first) / 1e9, summed[semconv.STEP_COLLECTIVE_TIME])
        sampled = self._sampled(run_id, period)
        self._verdicts.pop(period, None)
        if not sampled:
            return
        attributes: dict[str, Any] = {semconv.RUN_ID: run_id, **rank_attributes(self.rank)}
        if period.kind == semconv.SPAN_TRAIN_STEP:
            attributes[semconv.STEP] = period.number
        if self.attempt:
            attributes[semconv.ATTEMPT] = self.attempt
        if step is not None and not step.complete:
            attributes[semconv.STEP_INCOMPLETE] = True
        on_rank = {**attributes, **summed}
        if step is not None:
            on_rank |= readings.attributes(step.used)
        if sums is not None:
            start = min(sums.first, start)
        trace_id, root = identity.trace_id(run_id, period.key), identity.root_id(run_id, period.key)
        pairs = [
            (reading.at + self._epoch, pair_attributes(reading))
            for reading in peers.readings.until(end)
            if reading.at >= start - _SLACK
        ]
        links = list(self._spans.links)
        if self.attempt and period in _FIRST:
            before, key = identity.previous(run_id, self.attempt), of_step(SETUP).key
            links.append(link_to(identity.trace_id(before, key), identity.root_id(before, key)))
        for name, span_id, parent_id, each in (
            (_ON_RANK[period.kind], identity.rank_id(run_id, period.key, self.rank.rank), root, on_rank),
            (period.kind, root, None, attributes),
        ):
            if parent_id is not None or self.rank.rank == 0:
                self._spans.emit(
                    name,
                    trace_id=trace_id,
                    span_id=span_id,
                    parent_id=parent_id,
                    start=start + self._epoch,
                    end=end + self._epoch,
                    attributes=each,
                    links=links,
                    events=pairs if parent_id is not None else (),
                )
