"""One process's capture, job and telemetry, put together: when what starts, and how it ends.

Until there is a process group, nothing exists but what is installed in torch: no thread, no instrument.
"""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final

from otel_netmon import config, forks, threads
from otel_netmon.capture.capture import Capture
from otel_netmon.emit.background import Background
from otel_netmon.emit.rounds import Rounds
from otel_netmon.guard import guarded
from otel_netmon.job import peers
from otel_netmon.job.directory import StoreDirectory
from otel_netmon.job.groups import Groups
from otel_netmon.job.jobs import Jobs
from otel_netmon.termination import Termination

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from otel_netmon.diagnosing import LiveDiagnosis
    from otel_netmon.emit.observer import Observer
    from otel_netmon.job.job import Job

_logger = logging.getLogger(__name__)

_WAIT: Final = 2.0
"""Seconds that the user's thread waits for an agreement or an export, at most."""
_TERM_WAIT: Final = 4.0


class Engine:
    """One per process. ``start`` and ``stop`` may be called any number of times. torch must be imported.

    ``joined`` is called, in the background, when this process's place in a job becomes known. ``throttled`` makes
    what gives the nanoseconds for which a CPU quota has stopped this process, for one thread at a time.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        joined: Callable[[], None] = lambda: None,
        throttled: Callable[[], Callable[[], int | None]] = lambda: lambda: None,
    ) -> None:
        self._settings = config.current()
        self._wait = min(_WAIT, self._settings.exit_timeout)
        self._lock = threads.RLock()
        self._jobs = Jobs(self._changed)
        self._groups = Groups(self._jobs.place)
        self._capture = Capture(
            self._settings.ring_size,
            self._groups,
            keeps_messages=self._settings.error_messages == "on",
            begun=self._jobs.begun,
            throttled=throttled(),
            on_activity=self._begin,
            on_closing=self._closing,
            on_destroyed=self._destroyed,
        )
        self._rounds = Rounds(
            settings=self._settings,
            providers=(tracer_provider, meter_provider),
            capture=self._capture,
            groups=self._groups,
            jobs=self._jobs,
            joined=joined,
            observe=self._observer,
        )
        self._live: LiveDiagnosis | None = None
        self._throttled = throttled
        self._meter_provider = meter_provider
        self._background = Background(self._rounds)
        self._installed = False
        self._directory: StoreDirectory | None = None
        self._termination = Termination(self._terminated, min(_TERM_WAIT, self._settings.exit_timeout))
        forks.register(self)

    def start(self, *, from_the_start: bool = False) -> None:
        """Install everything. A second call does nothing, nor does one where nothing can be captured.

        ``from_the_start``: torch was imported just now, so that no optimizer exists yet.
        """
        import torch

        with self._lock:
            if self._installed or not torch.distributed.is_available():
                return
            self._installed = self._capture.install(self._settings.capture, from_the_start=from_the_start)
            if not self._installed:
                return
            guarded(self._termination.install)
            peers.directory = self._directory
            atexit.register(self._finish)
            if not self._capture.announces_activity:
                self._begin()

    def step(self) -> AbstractContextManager[None]:
        """One training step, as the user marks it."""
        return self._capture.steps.step()

    def stop(self) -> None:
        """Take everything out, emit what is left, and report nothing more."""
        self._finish()
        peers.directory = None
        if self._rounds.sink is not None:
            self._rounds.sink.detach()

    def _finish(self) -> None:
        """Stop capturing, emit what is left and stop the thread; at most ``exit_timeout`` seconds.

        At the end of the process this is all: the last export still reads the counters.
        """
        with self._lock:
            if not self._installed:
                return
            self._installed = False
        atexit.unregister(self._finish)
        self._end_live()
        self._capture.remove()
        guarded(self._termination.remove)
        if not self._background.stop(self._settings.exit_timeout):
            _logger.warning(
                "otel-netmon: not all was emitted within %g s at exit; the rest is dropped "
                "(OTEL_NETMON_EXIT_TIMEOUT sets that time)",
                self._settings.exit_timeout,
            )
        else:
            guarded(self._capture.exported)
        self._capture.close(self._rounds.abandoned or self._capture.ring.abandon())

    def after_fork_in_child(self) -> None:
        """Forget the parent's events and thread; both come anew with the first group or collective."""
        self._lock = threads.RLock()
        self._live = None
        self._groups.after_fork_in_child()
        self._jobs.after_fork_in_child()
        self._rounds.after_fork_in_child()
        self._background.after_fork_in_child()
        self._capture.after_fork_in_child()

    def _changed(self, job: Job) -> None:
        """This process is in another job."""
        self._capture.steps.joined(again=job.number > 0)
        rank, size = job.rank.rank, job.rank.world_size
        if job.world is None or rank is None or not size:
            self._directory = None
        else:
            self._directory = StoreDirectory(job.store, rank, size)
        peers.directory = self._directory

    def _observer(self, job: Job) -> Observer | None:
        """The live diagnosis of a job that has several ranks; it ends with the job."""
        rank, size = job.rank.rank, job.rank.world_size
        self._end_live()
        if self._settings.diagnosis == "off" or job.world is None or rank is None or (size or 0) < 2:
            return None
        from otel_netmon.diagnosing import LiveDiagnosis

        live = self._live = LiveDiagnosis(job, rank, size or 0, self._meter_provider, self._throttled())
        live.start()
        return live.observer

    def _end_live(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            guarded(live.stop)

    def _begin(self) -> None:
        """There is a group, or a collective: what belongs to a rank starts here, whoever made the process. So does
        the flush at SIGTERM, which a forked child has not until it is a rank."""
        with self._lock:
            if self._installed:
                guarded(self._termination.install)
                guarded(self._capture.keep_last_calls)
                if not self._background.is_running:
                    guarded(self._background.start)

    def _closing(self) -> None:
        """The default group is about to be destroyed: its store is asked now what it has to be asked."""
        job, foreign = self._jobs.refresh(), self._groups.place_all()
        ids = [one for one in foreign if one.is_first] + ([] if job is None else [job.run_id])
        self._background.await_ids(ids, self._wait)

    def _destroyed(self) -> None:
        """The job's groups are destroyed: have everything exported, and wait for that a little."""
        self._end_live()
        self._jobs.end()
        self._background.flush(self._wait)

    def _terminated(self, dies: bool) -> None:
        """SIGTERM, in a thread of its own: the last round, collectives in flight too, and everything exported."""
        if dies:
            done = self._background.stop(_WAIT)
            self._rounds.export()
            if done:
                self._capture.exported()
        else:
            self._background.flush(self._wait)
