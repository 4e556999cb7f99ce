"""Rounds of the background thread: captured events to spans and metrics, job by job."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import metrics, trace

from otel_netmon.capture.device_times import DeviceTimes
from otel_netmon.emit.emitter import NEVER, Emitter
from otel_netmon.emit.metrics import CollectiveMetrics
from otel_netmon.emit.spans import SpanWriter
from otel_netmon.guard import guarded
from otel_netmon.internals.otel_internals_logs import logger_provider
from otel_netmon.job import roles
from otel_netmon.sdk import resource
from otel_netmon.threads import Pace

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from otel_netmon.capture.capture import Capture
    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.capture.plain import PlainCalls
    from otel_netmon.config import Config
    from otel_netmon.emit.observer import Observer
    from otel_netmon.job.groups import Groups
    from otel_netmon.job.job import Job
    from otel_netmon.job.jobs import Jobs
    from otel_netmon.job.steps import StepMarks

_BATCH: Final = 128
"""Events that are taken at once."""
_PLAIN_BATCH: Final = 1024
"""Calls that are taken at once, where no events are made of them."""
_PAUSE: Final = 0.005
"""Seconds between two batches: the SDK's queue holds 2,048 spans by default; a full one drops the oldest."""
_INTERVAL: Final = 1.0
_SHORT_INTERVAL: Final = 0.25
_FULL: Final = 4
"""The part of the ring, a quarter, that may be filled between two rounds."""
_LAST_WAIT: Final = 2.0
_FLUSH_WAIT: Final = 2.0
_EXPORT_EVERY: Final = 5.0
"""Seconds, in a process that has no rank and may be killed without a word, as Ray's actors are."""


class Rounds:
    """Made by one thread at a time, the background's; ``export`` and what is public may be used by any."""

    def __init__(
        self,
        *,
        settings: Config,
        providers: tuple[TracerProvider | None, MeterProvider | None],
        capture: Capture,
        groups: Groups,
        jobs: Jobs,
        joined: Callable[[], None],
        observe: Callable[[Job], Observer | None] = lambda _job: None,
    ) -> None:
        """``observe`` gives who is told of a job's steps, if anybody is."""
        self._observe = observe
        self._settings = settings
        self._tracer_provider, self._meter_provider = providers
        self._capture = capture
        self._ring = capture.ring
        self._steps = capture.steps
        self._groups = groups
        self._jobs = jobs
        self._joined = joined
        self._spans = SpanWriter(self._tracer_provider)
        """One for all jobs: the SDK's tracer is one as well, and takes its ids from one generator."""
        self.sink: CollectiveMetrics | None = None
        """Of the provider that was there when the thread started."""
        self.abandoned: list[CollectiveEvent] = []
        """In flight when the last round was made."""
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """What was in hand is the parent's."""
        self._pace = Pace()
        self._emitters: dict[Job, Emitter] = {}
        self._ids: dict[Job, str | None] = {}
        """The jobs' run ids in this round: one that comes between a step's collectives and the step would have the
        step emitted without them."""
        self._last: Job | None = None
        self._device_times = DeviceTimes()
        self._exported = 0.0
        self._lost = 0
        """Spans lost by emitters of jobs that are over."""

    def start_over(self) -> None:
        """The thread begins: the metrics are those of the provider that is there now."""
        self.sink = None
        self._the_sink()

    def export(self, providers: tuple[Any, ...] | None = None) -> None:
        """Have the providers (default: those of spans and of metrics) export what they hold, where they can be
        asked to."""
        for provider in self._providers()[:2] if providers is None else providers:
            flush = getattr(provider, "force_flush", None)
            if flush is not None:
                flush(int(_FLUSH_WAIT * 1000))

    def _providers(self) -> tuple[Any, ...]:
        return (
            self._tracer_provider or trace.get_tracer_provider(),
            self._meter_provider or metrics.get_meter_provider(),
            logger_provider(),
        )

    def await_callbacks(self) -> None:
        """Let those in flight that did complete say so."""
        self._ring.await_callbacks()

    @property
    def interval(self) -> float:
        """Seconds from one round to the next.

        What waits as Python's objects would, in longer ones, grow into an older generation of its garbage
        collector, whose collections take longer. Nor does a process wait that may be killed without a word.
        """
        if self._settings.emit_interval is not None:
            return self._settings.emit_interval
        is_captured_natively = self._ring.source is not None and self._capture.sees_groups
        return _INTERVAL if is_captured_natively and not self._has_no_rank else _SHORT_INTERVAL

    @property
    def is_needed(self) -> bool:
        """Whether a round should not wait for its time: the ring fills, or it is not known yet who this is."""
        fills = self._ring.waiting * _FULL > self._ring.capacity
        return fills or self._last is None or None in self._ids.values()

    def next(self) -> None:
        """Drain the ring, in batches that leave the span processor time to export."""
        self._ids.clear()
        job = self._jobs.refresh()
        if job is not None and job is not self._last:
            self._begin(job)
        if job is not None and job.world is not None:
            for one in self._groups.place_all():
                if one.is_first:  # the others wait for its word
                    one.resolve()
        self._capture.poll()
        self._pace.give_way()
        # In this order: what ended before the marks is in the ring, and what had not is seen in flight.
        self._mark(self._steps.take(), self._steps.unmarked())
        at = self._capture.known_until
        in_flight = self._ring.in_flight()
        boundaries = [event.boundary for event in in_flight]
        ended = self._drain()
        lowest = min([*boundaries, *self._device_times.boundaries()], default=None)
        for job, emitter in list(self._emitters.items()):
            run_id = self._id(job)
            hanging = [event for event in in_flight if event.group.job in (job, None)]
            guarded(emitter.watch, run_id, hanging, at)
            if job is self._last and self._capture.box is not None:
                guarded(self._capture.box.update, job.rank, emitter.beat(run_id))
            self._pace.give_way()
            emitter.emit_intervals(run_id, lowest)
        guarded(self._spans.export)
        self._count_errors()
        if self._has_no_rank:
            self._export_at_once(ended)

    @property
    def _has_no_rank(self) -> bool:
        return self._last is not None and self._last.rank.rank is None

    def _export_at_once(self, ended: int) -> None:
        """In a process that may be killed without a word: spans as they end, metrics every few seconds."""
        now = time.monotonic()
        if now - self._exported > _EXPORT_EVERY:
            self._exported = now
            self.export()
        elif ended:
            self.export(self._providers()[:1])

    def _begin(self, job: Job) -> None:
        """Another job: what is open of the one before is said, and who this process is now."""
        before, self._last = self._last, job
        if before is not None and before.ended:
            guarded(self._conclude, before)
        roles.joined(job.rank)
        guarded(resource.refresh, *self._providers())
        self._spans.look_again()
        if not self._capture.records_calls:
            self._steps.begin()  # else the first event does
        guarded(self._joined)

    def _mark(self, marks: StepMarks, unmarked: int) -> None:
        """Steps belong to the job that was there when they ended."""
        emitter = self._emitter(self._last) if self._last is not None or marks.closed else None
        if self._last is not None and self._last.world is None and self._steps.never_constructed:
            unmarked = NEVER
        for one in self._emitters.values():
            one.marks(marks if one is emitter else marks._replace(closed=[]), unmarked)

    def _emitter(self, job: Job | None) -> Emitter:
        """The one of a job; of a group whose job could not be told, that of the present one."""
        job = job or self._last or self._jobs.unknown()
        emitter = self._emitters.get(job)
        if emitter is None:
            emitter = self._emitters[job] = Emitter(
                *(self._the_sink(), self._spans, self._settings, job),
                pace=self._pace,
                observer=self._observe(job),
            )
        return emitter

    def _the_sink(self) -> CollectiveMetrics:
        if self.sink is None:
            self.sink = CollectiveMetrics.of(self._meter_provider, self._ring)
        return self.sink

    def _take(self, events: list[CollectiveEvent]) -> None:
        by_job: dict[Job | None, list[CollectiveEvent]] = {}
        for event in events:
            by_job.setdefault(event.group.job, []).append(event)
        for job, those in by_job.items():
            self._emitter(job).take(those)

    def _take_plain(self, calls: PlainCalls) -> None:
        jobs = {kind.group.job for kind in calls.kinds()}
        if len(jobs) == 1:
            self._emitter(jobs.pop()).take_plain(calls)
        else:
            self._take(calls.events())

    def _emit(self) -> None:
        for job, emitter in list(self._emitters.items()):
            emitter.emit(self._id(job))

    def _id(self, job: Job) -> str | None:
        if job not in self._ids:
            self._ids[job] = job.resolve()
        return self._ids[job]

    def _drain(self) -> int:
        """Take what ended out of the ring; how many that were."""
        count = 0
        while True:
            plain, events = self._ring.take(_PLAIN_BATCH)
            taken = len(events)
            if plain is not None:
                taken += len(plain)
                self._take_plain(plain)
            self._capture.noted(events)
            for first in range(0, len(events) or 1, _BATCH):
                if first:
                    self._pace.rest(_PAUSE)
                self._take(self._device_times.pass_through(events[first : first + _BATCH]))
                self._pace.give_way()
                self._emit()
            count += taken
            if taken < _PLAIN_BATCH:
                return count
            self._pace.rest(_PAUSE)

    def _conclude(self, job: Job) -> None:
        """A job is over, and the process goes on."""
        emitter = self._emitters.get(job)
        if emitter is None:
            return
        run_id = self._ids[job] = job.resolve(last_call=True)
        assert run_id is not None
        emitter.marks(self._steps.take())
        self._drain()
        self._take(self._ring.abandon(lambda event: event.group.job is job))
        emitter.finish(run_id)
        self._lost += emitter.lost
        del self._emitters[job]
        self._count_errors()

    def last(self) -> None:
        deadline = time.monotonic() + min(_LAST_WAIT, self._settings.exit_timeout / 2)
        self._jobs.refresh()
        jobs = [job for job in (self._jobs.current, *self._emitters) if job is not None]
        while any(job.resolve() is None for job in jobs) and time.monotonic() < deadline:
            time.sleep(0.02)
        self._ids = {job: job.resolve(last_call=True) for job in jobs}
        self._ring.await_callbacks()
        last = self._steps.finish()
        marks = self._steps.take()._replace(open_step=last.index, open_key=last.key, settled=last.last_boundary)
        self._mark(marks, 0)
        self._drain()
        self.abandoned = self._ring.abandon()
        self._take(self._device_times.pass_through(self._ring.drain(), last=True))  # and what finished since
        self._take(self.abandoned)
        for job, emitter in list(self._emitters.items()):
            run_id = self._ids.get(job) or job.resolve(last_call=True)
            assert run_id is not None
            emitter.finish(run_id, last, is_present=job is self._last)
        self._count_errors()

    def _count_errors(self) -> None:
        if self.sink is not None:
            lost = self._lost + sum(one.lost for one in self._emitters.values())
            self.sink.errors = self._capture.recorder.errors + lost
