"""The background thread: when a round is made, and how it is waited for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from otel_netmon import threads
from otel_netmon.guard import guarded

if TYPE_CHECKING:
    from otel_netmon.emit.rounds import Rounds
    from otel_netmon.job.identity import RunId

_SOON: Final = 0.05
"""Seconds after a group appeared: by then torch knows whether it is the default one."""
_LOOK: Final = 0.5
"""Seconds between two looks whether a round is needed before its time."""


class Background:
    """One thread, while there is something to do. ``start`` and ``stop`` may be repeated."""

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """The thread is the parent's."""
        self._lock = threads.RLock()
        self._thread: threads.Running | None = None
        self._wake = threads.Event()
        self._stopping = False
        self._flush: threads.Event | None = None

    @property
    def is_running(self) -> bool:
        """Whether the thread was started and has not ended."""
        thread = self._thread
        return thread is not None and thread.is_alive()

    def start(self) -> None:
        """Start the thread, unless it runs."""
        with self._lock:
            if not self.is_running:
                self._stopping = False
                self._thread = threads.start(self._run, "otel-netmon-emitter")

    def stop(self, timeout: float) -> bool:
        """Make the last round, within ``timeout`` seconds. False when it has not ended by then."""
        thread = self._thread
        if thread is None:
            return True
        self._stopping = True
        self._wake.set()
        thread.join(timeout)
        return not thread.is_alive()

    def flush(self, timeout: float) -> None:
        """Have everything exported that was recorded, and wait for that, ``timeout`` seconds at most."""
        if self.is_running:
            done = self._flush = threads.Event()
            self._wake.set()
            done.wait(timeout)

    def await_ids(self, ids: list[RunId], timeout: float) -> None:
        """Wait until the ranks have agreed on the ids of their jobs and groups, while the stores still answer."""
        deadline = time.monotonic() + timeout
        while self.is_running and any(one.value is None for one in ids) and time.monotonic() < deadline:
            self._wake.set()
            time.sleep(0.01)

    def _wait(self, seconds: float) -> None:
        """Until somebody asks for a round, one is needed, or ``seconds`` are over."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0 and not self._wake.wait(min(left, _LOOK)):
            if self._rounds.is_needed:
                return

    def _run(self) -> None:
        guarded(self._rounds.start_over)
        wait = _SOON
        while not self._stopping:
            self._wait(wait)
            if not self._stopping:
                self._wake.clear()
            wait = self._rounds.interval
            asked, self._flush = self._flush, None
            if asked is not None:  # before the groups go: what has completed is to be in it
                guarded(self._rounds.await_callbacks)
            guarded(self._rounds.next)
            if asked is not None:
                guarded(self._rounds.export)
                asked.set()
        guarded(self._rounds.last)
