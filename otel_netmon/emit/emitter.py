"""Events to spans and metrics, in the background: nothing here runs on a training thread.

Metrics are fed as soon as an event is drained, whatever becomes of its span. A span waits until its step is
known; its parents' ids are computed, so it need not wait for the step to end.
"""

from __future__ import annotations

import functools
import logging
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from otel_netmon import semconv
from otel_netmon.emit.attribute_sets import AttributeSets
from otel_netmon.emit.attributes import rank_step
from otel_netmon.emit.chosen import Chosen
from otel_netmon.emit.collective_spans import CollectiveSpans, Losses
from otel_netmon.emit.evidence import EvidenceWriter
from otel_netmon.emit.hangs import HangDetector, HeartbeatSender
from otel_netmon.emit.interval_stats import IntervalStats
from otel_netmon.emit.intervals import Interval, StepResolver, of_step, tied_by_group
from otel_netmon.emit.log_events import LogEvents
from otel_netmon.emit.metrics import CollectiveMetrics
from otel_netmon.emit.progress import Progress
from otel_netmon.emit.step_writer import StepWriter, step_files
from otel_netmon.emit.waiting import Waiting
from otel_netmon.job import identity
from otel_netmon.job.steps import SETUP, Step, StepMarks
from otel_netmon.records import Heartbeat
from otel_netmon.threads import Pace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.capture.plain import PlainCalls
    from otel_netmon.config import Config
    from otel_netmon.emit.observer import Observer
    from otel_netmon.emit.spans import SpanWriter
    from otel_netmon.job.job import Job

_logger = logging.getLogger(__name__)

_REMEMBERED: Final = 1024
_AT_ONCE: Final = 32
"""Events that are made spans of in one go."""
_LOOKED_AT: Final = 64
"""Events that the metrics are fed with in one go."""
NEVER: Final = 1 << 62  # nanoseconds
_LONG: Final = 2_000_000_000
"""Nanoseconds for which a step has to be open for its end to be told although nothing was communicated in it."""
_PATIENCE: Final = 5_000_000_000
"""Nanoseconds that an ended step waits for its collectives: what comes later is not counted in it."""


class Emitter:
    """Drained events in, spans and metrics out. Used by one thread at a time, whose ``pace`` is kept."""

    def __init__(
        self,
        metrics: CollectiveMetrics,
        spans: SpanWriter,
        settings: Config,
        job: Job,
        *,
        pace: Pace | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._pace = pace or Pace()
        logs = LogEvents()
        self._hangs = HangDetector(settings.stall_after, logs)
        self._progress = Progress()
        self._heartbeat = HeartbeatSender(settings.heartbeat, logs, self._progress)
        self._observer = observer
        self._metrics = metrics
        self._spans = spans
        self._hold = settings.ring_size
        self._waiting = Waiting(settings.ring_size)
        self._chosen = Chosen(settings, job, spans)
        self._rank = rank = job.rank
        self._token = job.token
        self._member: int | str = job.token if rank.rank is None else rank.rank
        self._attempt = job.run_id.attempt
        # One anchor from the monotonic clock to the epoch: a step of the wall clock cannot make a negative
        # duration, nor move a span out of its parent.
        self._epoch = time.time_ns() - time.monotonic_ns()
        self._intervals = StepResolver(self._epoch, int(settings.window * 1e9), job.token)
        self._evidence = EvidenceWriter(spans, logs, self._epoch, self._member, observer)
        files = None if self._chosen.is_full else step_files(settings, spans)
        self._records = StepWriter(self._evidence, self._chosen, job.slow, files)
        self._losses = Losses()
        self._collectives = CollectiveSpans(spans, self._chosen, self._member, self._epoch, self._losses.guarded)
        self._opened = 0
        """When the last step that ended did."""
        self._begun = time.monotonic_ns()
        self._abouts = AttributeSets(rank)
        self._steps: deque[Step] = deque()
        """Ended, and not emitted yet."""
        self._stats: dict[Interval, IntervalStats] = {}

    @property
    def lost(self) -> int:
        """Spans lost: no provider or run id came while more than ``ring_size`` waited, or the provider failed."""
        return self._losses.count

    def take(self, events: list[CollectiveEvent]) -> None:
        """Feed the metrics; keep the events for their spans."""
        self._abouts.give(event.kind for event in events)
        for some in self._pace.pieces(events, _LOOKED_AT):
            self._metrics.record(some)
        self._metrics.record_overwritten(self._abouts.of)
        self._progress.end(events)
        self._losses.count += self._waiting.add(events)

    def take_plain(self, calls: PlainCalls) -> None:
        """The same with plain calls."""
        self._abouts.give(calls.kinds())
        series = calls.series()
        self._metrics.record_plain(series)
        for one in series:
            self._progress.reach(one.kind.group, one.last_sequence)
        self._losses.count += self._waiting.add_plain(calls)

    def marks(self, marks: StepMarks, unmarked: int = 0) -> None:
        """What ``StepTracker`` said: call this before the events that it is about are taken.

        ``unmarked`` is for how long, in ns, nothing has marked a step: no more steps are waited for then.
        """
        for step in marks.closed:
            self._intervals.closed(step)
            self._opened = step.end
        self._chosen.marks(marks)
        self._steps.extend(marks.closed)
        while len(self._steps) > self._hold:
            self._steps.popleft()
        crowded = len(self._waiting) > self._hold // 2
        self._waiting.look_again()
        self._intervals.now(marks, NEVER if unmarked and crowded else unmarked)

    def emit(self, run_id: str | None, *, last_call: bool = False) -> None:
        """Make the spans of the waiting events whose interval is known. With ``last_call`` no id is waited for."""
        if run_id is None or not self._spans.ready():
            return
        known, plain = self._waiting.take_known(self._intervals, self._pace, last_call=last_call)
        for interval, calls in plain:
            self._losses.guarded(self._add_plain, run_id, interval, calls, spans=len(calls))
        self._collectives.make_plain()
        for interval, events in known.items():
            for few in self._pace.pieces(events, _AT_ONCE):
                self._add(run_id, interval, few)
        self._losses.guarded(self._spans.flush)

    def emit_intervals(self, run_id: str | None, in_flight: int | None) -> None:
        """Make the spans of the steps and windows that ended.

        A step waits for its collectives: ``in_flight`` is the lowest boundary of those that have not ended.
        """
        if run_id is None or not self._spans.ready():
            return
        now = time.monotonic_ns()
        while self._steps:
            step = self._steps[0]
            if in_flight is not None and in_flight < step.last_boundary and now - step.end < _PATIENCE:
                break
            self._losses.guarded(self._emit_step, run_id, self._steps.popleft())
            self._pace.give_way()
        for interval in [interval for interval in self._stats if self._intervals.ended(interval, now - _PATIENCE)]:
            self._losses.guarded(self._emit_interval, run_id, interval, *self._intervals.bounds(interval))
        self._losses.guarded(self._records.release, run_id, now + self._epoch)
        self._metrics.feed_steps()
        self._losses.guarded(self._spans.flush)

    def watch(self, run_id: str | None, in_flight: list[CollectiveEvent], at: int | None = None) -> None:
        """Report collectives that hang, and that this rank lives. ``at``: when these were in flight."""
        at = time.monotonic_ns() if at is None else at
        progress = self._progress
        progress.see(in_flight)
        self._metrics.progress = progress
        if self._observer is not None:
            self._observer.standing(at, self._opened, in_flight, progress.issued, progress.ended)
        if run_id is None:
            return
        if in_flight:
            self._hangs.look(at, in_flight, lambda event: self._ids(run_id, event), self._rank)
        self._heartbeat.look(at, in_flight, self.beat(run_id), self._rank)
        since = self._opened or self._begun
        self._evidence.write_open(run_id, self._rank.rank, self._intervals, since, self._chosen.has)

    def beat(self, run_id: str | None) -> Heartbeat:
        """At which step this rank is."""
        interval = self._intervals.open
        number = interval.number if interval.kind == semconv.SPAN_TRAIN_STEP else None
        age = (time.monotonic_ns() - self._opened) / 1e9 if self._opened else None
        return Heartbeat(run_id, step=number, step_age=age)

    def _ids(self, run_id: str, event: CollectiveEvent) -> tuple[int, int]:
        """Of the span that it will have; its step is the one that is open, as long as it is not known."""
        of_group = tied_by_group(event)
        if of_group is not None and of_group.is_root:
            return of_group.trace_id, of_group.root_id
        span_id = identity.collective_id(run_id, self._member, event.group.name, event.sequence)
        if of_group is not None:
            return of_group.trace_id, span_id
        interval = self._intervals.of(event) or self._intervals.open
        return identity.trace_id(run_id, interval.key), span_id

    def finish(self, run_id: str, last: Step | None = None, *, is_present: bool = False) -> None:
        """Make the last spans: also of what was open when the process ended, if anything happened in it, or if it
        was open for long in the present job; and of windows."""
        self.emit(run_id, last_call=True)
        self.emit_intervals(run_id, None)
        if not self._spans.ready():
            return
        now = time.monotonic_ns()
        for interval in list(self._stats):
            if interval.kind == semconv.SPAN_WINDOW:
                start, end = self._intervals.bounds(interval)
                self._losses.guarded(self._emit_interval, run_id, interval, start, min(end, now))
            elif last is not None and interval == of_step(SETUP):  # no step ever came
                setup = replace(last, index=SETUP, end=now, key="")
                self._losses.guarded(self._emit_step, run_id, setup)
        if last is not None:
            is_open, length = of_step(last.index, last.key), last.end - last.start
            if is_open in self._stats or (is_present and last.index > 0 and length > _LONG):
                self._losses.guarded(self._emit_interval, run_id, is_open, last.start, last.end, last)
        self._losses.guarded(functools.partial(self._records.release, is_last=True), run_id, now + self._epoch)
        self._metrics.feed_steps()
        self._losses.guarded(self._spans.flush)

    def _stats_of(self, interval: Interval) -> IntervalStats:
        stats = self._stats.get(interval)
        if stats is None:
            stats = self._stats[interval] = IntervalStats(self._pace)
            if len(self._stats) > _REMEMBERED:  # of steps that were emitted before their last collective
                del self._stats[next(iter(self._stats))]
        return stats

    def _add_plain(self, run_id: str, interval: Interval, calls: PlainCalls) -> None:
        if self._spans.packs:
            self._stats_of(interval).add_plain(calls)
            self._collectives.add_plain(run_id, interval, calls)
        else:
            self._add(run_id, interval, calls.events())

    def _add(self, run_id: str, interval: Interval, events: Sequence[CollectiveEvent]) -> None:
        self._stats_of(interval).add(events)
        self._collectives.add(run_id, interval, events)

    def _emit_step(self, run_id: str, step: Step) -> None:
        interval = of_step(step.index, step.key)
        if (step.index == SETUP or not step.complete) and interval not in self._stats:
            return  # nothing was communicated
        self._emit_interval(run_id, interval, step.start, step.end, step)

    def _emit_interval(
        self, run_id: str, interval: Interval, start: int, end: int, step: Step | None = None
    ) -> None:
        record = rank_step(interval, self._rank, self._stats.pop(interval, None), step, (start, end))
        if step is not None and step.complete and record.step is not None:
            self._metrics.record_step((end - record.start) / 1e9, record.collective_time or 0.0)
        record = record._replace(run_id=run_id, attempt=self._attempt or None)
        is_root = self._rank.rank == 0 or (interval.kind == semconv.SPAN_WINDOW and bool(self._token))
        self._records.add(run_id, interval, record, is_root=is_root)
