"""The capture engine of a process: what is put into torch, and taken out again; the ring, the steps and the jobs.

Nothing but the backend's kernels exists until the first group: no thread, no instrument, no provider look-up.
"""

from __future__ import annotations

import atexit
import functools
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from otel_netmon import config, forks, guard, patches, threads
from otel_netmon.capture import aggregator, event, lifecycle, recorder, ring, steps, usage, work_waits
from otel_netmon.capture.backend import choose
from otel_netmon.capture.backends import dispatcher, hooks, python_groups
from otel_netmon.capture.backends.dispatcher import DispatcherBackend
from otel_netmon.capture.backends.flight_recorder import needs_no_first_event
from otel_netmon.capture.compiling import keep_out_of
from otel_netmon.capture.lifecycle import LifecycleCallbacks, LifecycleHooks
from otel_netmon.capture.recorder import Recorder
from otel_netmon.capture.ring import EventRing
from otel_netmon.capture.steps import StepTracker
from otel_netmon.capture.usage import UsageSampler
from otel_netmon.capture.work_waits import WorkWaitHook
from otel_netmon.emit.background import Background
from otel_netmon.emit.rounds import Rounds
from otel_netmon.guard import guarded, log_once
from otel_netmon.job import groups, jobs, peers
from otel_netmon.job.directory import StoreDirectory
from otel_netmon.job.groups import Groups
from otel_netmon.job.jobs import Jobs
from otel_netmon.job.store import all_groups
from otel_netmon.termination import Termination

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from otel_netmon.capture.backend import CaptureBackend
    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.job.jobs import Job

_logger = logging.getLogger(__name__)

_ON_THE_TRAINING_THREAD: Final = (
    *(aggregator, dispatcher, event, groups, guard, hooks, jobs, lifecycle, patches, python_groups, recorder),
    *(ring, steps, threads, usage, work_waits),
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
        self._waits = WorkWaitHook()
        self._usage = UsageSampler(lambda: self._waits.blocked)
        self._lifecycle = LifecycleHooks(
            LifecycleCallbacks(self._constructed, self._registered, self._going, self._destroyed)
        )
        self._jobs = Jobs(self._changed)
        self.steps = StepTracker(read=self._usage.read, begun=self._jobs.begun)
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
        self._backend: CaptureBackend | None = None
        self._optimizer_hook: Any = None
        self._installed = False
        self._directory = StoreDirectory()
        self._termination = Termination(self._terminated, min(_TERM_WAIT, self._settings.exit_timeout))
        forks.register(self)

    # --- life ---------------------------------------------------------------------------------------------

    def start(self, *, from_the_start: bool = False) -> None:
        """Put the backend in. torch must be imported. A second call does nothing.

        Where there is no backend to be had, nothing is put in. What else is missing costs only what it gives.
        ``from_the_start``: torch was imported just now, so that no optimizer exists yet.
        """
        import torch

        with self._lock:
            if self._installed or self._settings.capture == "off" or not torch.distributed.is_available():
                return
            guarded(keep_out_of, *_ON_THE_TRAINING_THREAD)
            self._backend = self._rounds.backend = self._put_seam()
            if self._backend is None:
                return
            self._installed = True
            self.steps.from_the_start = from_the_start
            self._recorder.rearm(self._first_event)
            if not needs_no_first_event(self._backend):
                install = functools.partial(self._waits.install, self._recorder)
                self._part("the ends of blocking calls are late", install, self._waits.remove)
            self._part("what a step used is not told", self._usage.install, self._usage.remove)
            self._part("the setup is not told from the steps", self._lifecycle.install, self._lifecycle.remove)
            self._part("optimizers mark no steps", self._hook_optimizers)
            self._part("SIGTERM is not flushed", self._termination.install, self._termination.remove)
            peers.directory = self._directory
            atexit.register(self._finish)
            if needs_no_first_event(self._backend) or not self._lifecycle.tell_of_groups or all_groups():
                self._begin()

    def _put_seam(self) -> CaptureBackend | None:
        """The backend of choice, or the dispatcher where that one cannot be put in; ``None`` where neither can."""
        backend = choose(self._settings.capture, self._recorder, self._groups, self.steps)
        if not isinstance(backend, DispatcherBackend):
            if self._part("collectives are captured in the dispatcher", backend.install, backend.remove):
                return backend
            backend = DispatcherBackend(self._recorder, self._groups)
        return backend if self._part("no collective is captured", backend.install, backend.remove) else None

    @staticmethod
    def _part(costs: str, install: Callable[[], object], remove: Callable[[], object] = lambda: None) -> bool:
        """Put a part in, whole or not at all; whether it is in. ``costs`` is said where it is not."""
        try:
            install()
        except Exception as error:  # noqa: BLE001  # another torch: law 1
            log_once(_logger, error, f"otel-netmon: this torch is made otherwise: {costs}")
            guarded(remove)
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
        """Take the backend out, emit what is left and stop the thread; at most ``exit_timeout`` seconds.

        At the end of the process this is all: the last export still reads the counters.
        """
        with self._lock:
            if not self._installed:
                return
            self._installed = False
        atexit.unregister(self._finish)
        assert self._backend is not None
        guarded(self._backend.close_failed_calls, threading.get_ident())
        guarded(self._backend.remove)
        guarded(self._waits.remove)
        guarded(self._lifecycle.remove)
        if self._optimizer_hook is not None:
            guarded(self._optimizer_hook.remove)
            self._optimizer_hook = None
        guarded(self._termination.remove)
        if not self._background.stop(self._settings.exit_timeout):
            _logger.warning(
                "otel-netmon: still emitting after OTEL_NETMON_EXIT_TIMEOUT=%g s; leaving the rest",
                self._settings.exit_timeout,
            )
        guarded(self._recorder.release_futures, self._rounds.abandoned or self._ring.abandon())
        guarded(self._usage.remove)

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
        if self._backend is not None:
            guarded(self._backend.group_created, process_group)
        if self._installed:
            guarded(self._termination.install)
        self._begin()

    def _going(self) -> None:
        """The default group is about to go: what has to be asked of it, or of its store, is asked now."""
        job, foreign = self._jobs.look(), self._groups.place_all()
        if self._backend is not None:
            guarded(self._backend.groups_closing)
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
        guarded(self.steps.optimizer_stepped, optimizer)

    def _first_event(self, event: CollectiveEvent) -> None:
        """On the training thread, once."""
        self.steps.begin(event.start)
        self._begin()

    def _begin(self) -> None:
        """Have the background thread run."""
        with self._lock:
            if self._installed and not self._background.is_running:
                guarded(self._background.start)
