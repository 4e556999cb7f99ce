"""The capture engine of a process: what is put into torch, and taken out again; the ring, the steps and the jobs.

Nothing but the seam's kernels exists until the first group: no thread, no instrument, no provider look-up.
"""

from __future__ import annotations

import atexit
import functools
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from otel_netmon import config, forks, patches, peers, runtime, threads
from otel_netmon.collectives import (
    dispatcher,
    event,
    groups,
    hooks,
    jobs,
    marks,
    python_groups,
    readings,
    record,
    steps,
    tally,
    waits,
)
from otel_netmon.collectives.background import Background
from otel_netmon.collectives.compiling import keep_out_of
from otel_netmon.collectives.dispatcher import DispatcherSeam
from otel_netmon.collectives.endpoints import StoreDirectory
from otel_netmon.collectives.event import EventRing
from otel_netmon.collectives.groups import Groups
from otel_netmon.collectives.jobs import Jobs
from otel_netmon.collectives.marks import Happenings, Marks
from otel_netmon.collectives.polling import needs_no_first_event
from otel_netmon.collectives.readings import Meter
from otel_netmon.collectives.record import Recorder
from otel_netmon.collectives.rounds import Rounds
from otel_netmon.collectives.seams import choose
from otel_netmon.collectives.steps import StepTracker
from otel_netmon.collectives.waits import Waits
from otel_netmon.termination import Termination

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from otel_netmon.collectives.event import CollectiveEvent
    from otel_netmon.collectives.jobs import Job
    from otel_netmon.collectives.seams import Seam

_logger = logging.getLogger(__name__)

_ON_THE_TRAINING_THREAD: Final = (
    *(dispatcher, event, groups, hooks, jobs, marks, patches, python_groups, readings, record, runtime, steps),
    *(tally, threads, waits),
)
_LAST_WAIT: Final = 2.0
_FLUSH_WAIT: Final = 2.0
_TERM_WAIT: Final = 4.0


class Engine:
    """One per process. ``start`` and ``stop`` may be called any number of times.

    ``joined`` is called, in the background, when this process's place in a job becomes known.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        joined: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = config.current()
        self._lock = threads.RLock()
        self._waits = Waits()
        self._meter = Meter(lambda: self._waits.blocked)
        self._marks = Marks(Happenings(self._constructed, self._registered, self._going, self._destroyed))
        self._jobs = Jobs(self._changed)
        self.steps = StepTracker(read=self._meter.read, begun=self._jobs.begun)
        self._ring = EventRing(self._settings.ring_size)
        self._recorder = Recorder(self._ring, self.steps, self._waits, on_first=self._first_event)
        self._groups = Groups(self._jobs)
        self._rounds = Rounds(
            settings=self._settings,
            providers=(tracer_provider, meter_provider),
            ring=self._ring,
            recorder=self._recorder,
            waits=self._waits,
            steps=self.steps,
            groups=self._groups,
            jobs=self._jobs,
            joined=joined,
        )
        self._background = Background(self._rounds, self._settings.emit_interval)
        self._seam: Seam | None = None
        self._optimizer_hook: Any = None
        self._installed = False
        self._directory = StoreDirectory()
        self._termination = Termination(self._terminated, min(_TERM_WAIT, self._settings.exit_timeout))
        forks.register(self)

    # --- life ---------------------------------------------------------------------------------------------

    def start(self, *, from_the_start: bool = False) -> None:
        """Put the seam in. torch must be imported. A second call does nothing.

        Where there is no seam to be had, nothing is put in. What else is missing costs only what it gives.
        ``from_the_start``: torch was imported just now, so that no optimizer exists yet.
        """
        import torch

        with self._lock:
            if self._installed or self._settings.capture == "off" or not torch.distributed.is_available():
                return
            runtime.guarded(keep_out_of, *_ON_THE_TRAINING_THREAD)
            self._seam = self._rounds.seam = self._put_seam()
            if self._seam is None:
                return
            self._installed = True
            self.steps.from_the_start = from_the_start
            self._recorder.rearm(self._first_event)
            if not needs_no_first_event(self._seam):
                install = functools.partial(self._waits.install, self._recorder)
                self._part("the ends of blocking calls are late", install, self._waits.remove)
            self._part("what a step used is not told", self._meter.install, self._meter.remove)
            self._part("the setup is not told from the steps", self._marks.install, self._marks.remove)
            self._part("optimizers mark no steps", self._hook_optimizers)
            self._part("SIGTERM is not flushed", self._termination.install, self._termination.remove)
            peers.directory = self._directory
            atexit.register(self._finish)
            if needs_no_first_event(self._seam) or not self._marks.tell_of_groups or jobs.all_groups():
                self._begin()

    def _put_seam(self) -> Seam | None:
        """The seam of choice, or the dispatcher where that one cannot be put in; ``None`` where neither can."""
        seam = choose(self._settings.capture, self._recorder, self._groups, self.steps)
        if not isinstance(seam, DispatcherSeam):
            if self._part("collectives are captured in the dispatcher", seam.install, seam.remove):
                return seam
            seam = DispatcherSeam(self._recorder, self._groups)
        return seam if self._part("no collective is captured", seam.install, seam.remove) else None

    @staticmethod
    def _part(costs: str, install: Callable[[], object], remove: Callable[[], object] = lambda: None) -> bool:
        """Put a part in, whole or not at all; whether it is in. ``costs`` is said where it is not."""
        try:
            install()
        except Exception as error:  # noqa: BLE001  # another torch: law 1
            runtime.log_once(_logger, error, f"otel-netmon: this torch is made otherwise: {costs}")
            runtime.guarded(remove)
            return False
        return True

    def _hook_optimizers(self) -> None:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        self._optimizer_hook = register_optimizer_step_post_hook(self._optimizer_stepped)

    def stop(self) -> None:
        """Take everything out: ``_finish``, and report nothing more."""
        self._finish()
        if peers.directory is self._directory:
            peers.directory = None
        if self._rounds.sink is not None:
            self._rounds.sink.detach()

    def _finish(self) -> None:
        """Take the seam out, emit what is left and stop the thread; at most ``exit_timeout`` seconds.

        At the end of the process this is all: the last export still reads the counters.
        """
        with self._lock:
            if not self._installed:
                return
            self._installed = False
        atexit.unregister(self._finish)
        assert self._seam is not None
        runtime.guarded(self._seam.settle, threading.get_ident())
        runtime.guarded(self._seam.remove)
        runtime.guarded(self._waits.remove)
        runtime.guarded(self._marks.remove)
        if self._optimizer_hook is not None:
            runtime.guarded(self._optimizer_hook.remove)
            self._optimizer_hook = None
        runtime.guarded(self._termination.remove)
        if not self._background.stop(self._settings.exit_timeout):
            _logger.warning(
                "otel-netmon: still emitting after OTEL_NETMON_EXIT_TIMEOUT=%g s; leaving the rest",
                self._settings.exit_timeout,
            )
        runtime.guarded(self._recorder.let_go, self._rounds.abandoned or self._ring.abandon())
        runtime.guarded(self._meter.remove)

    def after_fork_in_child(self) -> None:
        """Forget the parent's events and thread; both come anew with the first group or collective."""
        self._lock = threads.RLock()
        self._groups.after_fork_in_child()
        self._jobs.after_fork_in_child()
        self._rounds.after_fork_in_child()
        self._background.after_fork_in_child()
        self._recorder.rearm(self._first_event)
        self._recorder.errors = 0

    # --- what happens -------------------------------------------------------------------------------------

    def _constructed(self) -> None:
        self.steps.constructed()

    def _registered(self, process_group: Any) -> None:
        """torch has a new group. What belongs to a rank starts here, whoever made the process.

        That a signal is flushed first too: a forked child had the default, until it is a rank.
        """
        if self._seam is not None:
            runtime.guarded(self._seam.made, process_group)
        if self._installed:
            runtime.guarded(self._termination.install)
        self._begin()

    def _going(self) -> None:
        """The default group is about to go: what has to be asked of it, or of its store, is asked now."""
        job, foreign = self._jobs.look(), self._groups.place_all()
        if self._seam is not None:
            runtime.guarded(self._seam.going)
        ids = [one for one in foreign if one.is_first] + ([] if job is None else [job.run_id])
        self._background.await_ids(ids, min(_LAST_WAIT, self._settings.exit_timeout))

    def _destroyed(self) -> None:
        """The job's groups are gone: have everything exported, and wait for that a little."""
        self._jobs.end()
        self._background.flush(min(_FLUSH_WAIT, self._settings.exit_timeout))

    def _changed(self, job: Job) -> None:
        self.steps.joined(again=job.number > 0)

    def _terminated(self, dies: bool) -> None:
        """SIGTERM. In a thread of its own: the last round, in flight collectives too, and out with everything."""
        if not dies:
            self._background.flush(min(_FLUSH_WAIT, self._settings.exit_timeout))
            return
        self._background.stop(_LAST_WAIT)
        self._rounds.export()

    def _optimizer_stepped(self, optimizer: object, _args: object, _kwargs: object) -> None:
        runtime.guarded(self.steps.optimizer_stepped, optimizer)

    def _first_event(self, event: CollectiveEvent) -> None:
        """On the training thread, once."""
        self.steps.begin(event.start)
        self._begin()

    def _begin(self) -> None:
        """Have the background thread run."""
        with self._lock:
            if self._installed and not self._background.is_running:
                runtime.guarded(self._background.start)
