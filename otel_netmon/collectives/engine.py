"""The capture engine of a process: seam, ring, steps and the thread that emits.

Nothing but the seam's kernels exists until the first collective: no thread, no instrument, no provider look-up.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import metrics, trace

from otel_netmon import config, peers, runtime
from otel_netmon.collectives import (
    dispatcher,
    event,
    groups,
    hooks,
    marks,
    python_groups,
    readings,
    record,
    steps,
    tally,
    waits,
)
from otel_netmon.collectives.compiling import keep_out_of
from otel_netmon.collectives.device_times import DeviceTimes
from otel_netmon.collectives.emit import Emitter
from otel_netmon.collectives.endpoints import StoreDirectory
from otel_netmon.collectives.event import EventRing
from otel_netmon.collectives.groups import Groups
from otel_netmon.collectives.identity import RunId
from otel_netmon.collectives.marks import Marks
from otel_netmon.collectives.polling import needs_no_first_event
from otel_netmon.collectives.rank import RankIdentity, default_group
from otel_netmon.collectives.readings import Meter
from otel_netmon.collectives.record import Recorder
from otel_netmon.collectives.seams import choose
from otel_netmon.collectives.sink import MetricSink
from otel_netmon.collectives.spans import SpanMaker
from otel_netmon.collectives.steps import StepTracker
from otel_netmon.collectives.waits import Waits
from otel_netmon.termination import Termination

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from otel_netmon.collectives.event import CollectiveEvent

_logger = logging.getLogger(__name__)

_ON_THE_TRAINING_THREAD: Final = (
    *(dispatcher, event, groups, hooks, marks, python_groups, readings, record, runtime, steps),
    *(tally, waits),
)
_BATCH: Final = 512
"""Events per round: the SDK's queue holds 2,048 spans by default and drops the oldest when it is full."""
_PAUSE: Final = 0.02
_COMING: Final = 5.0
_SOON: Final = 0.002
_LAST_WAIT: Final = 2.0
_FLUSH_WAIT: Final = 2.0
_TERM_WAIT: Final = 4.0
_CALLBACK_WAIT: Final = 1.0
_COMPLETION_WAIT: Final = 0.05


class Engine:
    """One per process. ``start`` and ``stop`` may be called any number of times."""

    def __init__(
        self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        self._settings = config.current()
        self._lock = threading.RLock()
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        self._waits = Waits()
        self._meter = Meter(lambda: self._waits.blocked)
        self._marks = Marks(self._constructed, self._destroyed)
        self.steps = StepTracker(read=self._meter.read)
        self._ring = EventRing(self._settings.ring_size)
        self._recorder = Recorder(self._ring, self.steps, self._waits, on_first=self._first_event)
        self._seam = choose(self._settings.capture, self._recorder, Groups(), self.steps)
        self._optimizer_hook: Any = None
        self._run_id = RunId(self._settings.run_id, self._settings.run_id_timeout, attempt=runtime.restart_count())
        self._sink: MetricSink | None = None
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._flush = False
        self._flushed = threading.Event()
        self._group_came = 0.0
        """When a group was registered last, for a seam that has nothing else on the training thread."""
        self._stopping = False
        self._installed = False
        self._device_times = DeviceTimes()
        self._directory: StoreDirectory | None = None
        self._termination = Termination(self._terminated, min(_TERM_WAIT, self._settings.exit_timeout))
        self._abandoned: list[CollectiveEvent] = []
        """In flight when the last round was made."""

    # --- life ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Put the seam in. torch must be imported. A second call does nothing."""
        import torch
        from torch.optim.optimizer import register_optimizer_step_post_hook

        with self._lock:
            if self._installed or self._settings.capture == "off" or not torch.distributed.is_available():
                return
            runtime.guarded(keep_out_of, *_ON_THE_TRAINING_THREAD)
            if not needs_no_first_event(self._seam):
                self._waits.install(self._recorder)
            self._meter.install()
            self._marks.install()
            self._seam.install()
            self._optimizer_hook = register_optimizer_step_post_hook(self._optimizer_stepped)
            self._installed = True
            self._termination.install()
            peers.directory = self._directory = StoreDirectory()
            if needs_no_first_event(self._seam):
                self._seam.on_group = self._group_comes
                self._start_thread(self._run_when_initialised)
            atexit.register(self._finish)

    def stop(self) -> None:
        """Take everything out, for good: ``_finish``, and report nothing more."""
        self._finish()
        if peers.directory is self._directory:
            peers.directory = None
        if self._sink is not None:
            self._sink.detach()

    def _finish(self) -> None:
        """Take the seam out, emit what is left and stop the thread; at most ``exit_timeout`` seconds.

        At the end of the process this is all: the last export still reads the counters.
        """
        with self._lock:
            if not self._installed:
                return
            self._installed = False
        atexit.unregister(self._finish)
        runtime.guarded(self._seam.settle, threading.get_ident())
        runtime.guarded(self._seam.remove)
        runtime.guarded(self._waits.remove)
        runtime.guarded(self._marks.remove)
        runtime.guarded(self._optimizer_hook.remove)
        runtime.guarded(self._termination.remove)
        thread = self._thread
        if thread is not None:
            self._stopping = True
            self._wake.set()
            thread.join(self._settings.exit_timeout)
            if thread.is_alive():
                _logger.warning(
                    "otel-netmon: still emitting after OTEL_NETMON_EXIT_TIMEOUT=%g s; leaving the rest",
                    self._settings.exit_timeout,
                )
        runtime.guarded(self._recorder.let_go, self._abandoned or self._ring.abandon())
        runtime.guarded(self._meter.remove)

    def after_fork(self) -> None:
        """In a forked child: forget the parent's events and thread; both come anew at the first collective."""
        self._lock = threading.RLock()
        self._ring.clear_after_fork()
        self._wake = threading.Event()
        self._thread = None
        self._termination.after_fork_in_child()
        self._recorder.rearm(self._first_event)
        self._meter.after_fork()

    def _constructed(self) -> None:
        runtime.guarded(self.steps.constructed)

    def _group_comes(self) -> None:
        self._group_came = time.monotonic()
        self._wake.set()

    def _destroyed(self) -> None:
        """The job's groups are gone: have everything exported, and wait for that a little."""
        if self._thread is not None:
            self._flushed.clear()
            self._flush = True
            self._wake.set()
            self._flushed.wait(min(_FLUSH_WAIT, self._settings.exit_timeout))

    def _terminated(self, dies: bool) -> None:
        """SIGTERM. In a thread of its own: the last round, in flight collectives too, and out with everything."""
        if not dies:
            self._destroyed()
            return
        self._stopping = True
        self._wake.set()
        thread = self._thread
        if thread is not None:
            thread.join(_LAST_WAIT)
        self._export()

    def _optimizer_stepped(self, optimizer: object, _args: object, _kwargs: object) -> None:
        runtime.guarded(self.steps.optimizer_stepped, optimizer)

    # --- the first collective -----------------------------------------------------------------------------

    def _first_event(self, event: CollectiveEvent) -> None:
        """Start the background thread. On the training thread, once: it looks up references and starts it."""
        self.steps.begin(event.start)
        rank, store = default_group()
        self._run_id.agree_through(store, is_rank_0=rank.rank == 0)
        with self._lock:
            self._start_thread(self._run, rank)

    def _start_thread(self, target: Callable[..., None], *args: Any) -> None:
        self._thread = threading.Thread(target=target, args=args, name="otel-netmon-emitter", daemon=True)
        self._thread.start()

    # --- the background thread ----------------------------------------------------------------------------

    def _run_when_initialised(self) -> None:
        """For a seam that has nothing on the training thread: wait for a process group, then as ever."""
        from torch.distributed import distributed_c10d as c10d

        while not c10d.is_initialized():
            if self._stopping:
                return
            # The default group is registered just before it is the default; a short job is over soon.
            is_coming = time.monotonic() - self._group_came < _COMING
            self._wake.wait(_SOON if is_coming else self._settings.emit_interval)
            self._wake.clear()
        self.steps.begin()
        rank, store = default_group()
        self._run_id.agree_through(store, is_rank_0=rank.rank == 0)
        self._run(rank)

    def _run(self, rank: RankIdentity) -> None:
        settings = self._settings
        sink = self._sink = MetricSink.of(self._meter_provider, self._ring)
        emitter = Emitter(
            sink,
            SpanMaker(self._tracer_provider),
            hold=settings.ring_size,
            trace_every=settings.trace_every,
            window=int(settings.window * 1e9),
            stall_after=settings.stall_after,
        )
        emitter.rank = rank
        emitter.attempt = self._run_id.attempt
        while not self._stopping:
            runtime.guarded(self._round, emitter)
            if self._flush:
                self._flush = False
                runtime.guarded(self._export)
                self._flushed.set()
            self._wake.wait(self._settings.emit_interval)
            if not self._stopping:
                self._wake.clear()
        runtime.guarded(self._last_round, emitter)

    def _round(self, emitter: Emitter) -> None:
        """Drain the ring, in batches that leave the span processor time to export."""
        self._seam.look()
        self._waits.follow_the_unwaited(self._recorder)
        run_id = self._run_id.resolve()
        # In this order: what ended before the marks is in the ring, and what had not is seen in flight.
        emitter.marks(*self.steps.take(), self.steps.unmarked())
        in_flight = self._ring.in_flight()
        ticks = [event.tick for event in in_flight]
        self._drain(emitter, run_id)
        runtime.guarded(emitter.stalled, run_id, in_flight)
        emitter.emit_periods(run_id, min([*ticks, *self._device_times.ticks()], default=None))
        self._sink_errors(emitter)

    def _export(self) -> None:
        """Have the providers export what they hold, where they can be asked to."""
        for provider in (
            self._tracer_provider or trace.get_tracer_provider(),
            self._meter_provider or metrics.get_meter_provider(),
        ):
            flush = getattr(provider, "force_flush", None)
            if flush is not None:
                flush(int(_FLUSH_WAIT * 1000))

    def _drain(self, emitter: Emitter, run_id: str | None) -> None:
        while True:
            events = self._ring.drain(_BATCH)
            emitter.take(self._device_times.pass_through(events))
            emitter.emit(run_id)
            if len(events) < _BATCH:
                return
            time.sleep(_PAUSE)

    def _last_round(self, emitter: Emitter) -> None:
        deadline = time.monotonic() + min(_LAST_WAIT, self._settings.exit_timeout / 2)
        while self._run_id.resolve() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        run_id = self._run_id.resolve(last_call=True)
        assert run_id is not None
        self._await_callbacks()
        last = self.steps.finish()
        closed, _, _ = self.steps.take()
        emitter.marks(closed, last.index, last.last_tick)
        self._drain(emitter, run_id)
        self._abandoned = self._ring.abandon()
        emitter.take(self._device_times.pass_through(self._ring.drain(), last=True))  # and what finished since
        emitter.take(self._abandoned)
        emitter.emit(run_id)
        emitter.emit_periods(run_id, None)
        emitter.finish(run_id, last)
        self._sink_errors(emitter)

    def _await_callbacks(self) -> None:
        """Let those in flight that did complete say so: C++ callers go on before a future's callbacks ran."""
        since = time.monotonic()
        while in_flight := self._ring.in_flight():
            completed = any(event.future is not None and event.future.done() for event in in_flight)
            if time.monotonic() - since > (_CALLBACK_WAIT if completed else _COMPLETION_WAIT):
                break
            time.sleep(0.001)

    def _sink_errors(self, emitter: Emitter) -> None:
        if self._sink is not None:
            self._sink.errors = self._recorder.errors + emitter.lost
