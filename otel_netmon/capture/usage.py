"""What this process used in a step: running totals, read at the step's boundaries for some microseconds each.

What this system does not measure is ``None`` and stays absent.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from otel_netmon import forks
from otel_netmon.guard import guarded
from otel_netmon.internals.torch_internals import replace_next_batch
from otel_netmon.job.steps import HeldUp
from otel_netmon.patches import Patches
from otel_netmon.records import ResourceUsage

_PAUSE: Final = 1_000_000
"""Nanoseconds from which on a pause is remembered by itself."""
_HELD: Final = 1024
_LONGEST: Final = 16
"""Pauses of a step that are remembered, at most."""
_SCHEDSTAT: Final = "/proc/self/schedstat"
"""Of the main thread: ns on a CPU, ns waiting for one, time slices."""


class UsageSampler:
    """Reads the totals, from ``install`` to ``remove``. ``blocked`` gives the nanoseconds in ``Work.wait``, and
    ``throttled`` those for which a CPU quota stopped the process."""

    def __init__(self, blocked: Callable[[], int], throttled: Callable[[], int | None] = lambda: None) -> None:
        self._blocked = blocked
        self._throttled = throttled
        self._gc: tuple[int, int | None] = 0, None
        """Nanoseconds in collections that ended, and since when one is under way. One assignment at a time."""
        self._data = 0
        self._pauses: deque[HeldUp] = deque(maxlen=_HELD)
        self._schedstat = -1
        self._patches = Patches()
        self._installed = self._counts_data = False
        forks.register(self)

    def install(self) -> None:
        """Begin to count. torch must be imported."""
        self._installed = True
        gc.callbacks.append(self._collecting)
        self._open_schedstat()
        guarded(self._patch_loader)

    def remove(self) -> None:
        """Put everything back."""
        self._installed = self._counts_data = False
        with contextlib.suppress(ValueError):  # taken out by somebody else
            gc.callbacks.remove(self._collecting)
        self._close_schedstat()
        self._patches.remove()

    def after_fork_in_child(self) -> None:
        """The open file is still the parent's, and a collection may have been under way there."""
        self._gc = 0, None
        self._pauses.clear()
        if self._installed:
            self._close_schedstat()
            self._open_schedstat()

    def read(self) -> ResourceUsage:
        """The totals now. Some 5 µs, and 5 more for each CPU quota."""
        if not self._installed:
            return ResourceUsage()
        usage = resource.getrusage(resource.RUSAGE_SELF)  # of all threads
        return ResourceUsage(
            self._blocked(),
            self._collected(),
            self._data if self._counts_data else None,
            int((usage.ru_utime + usage.ru_stime) * 1e9),
            self._run_queue(),
            self._throttled(),
            usage.ru_nvcsw,
            usage.ru_nivcsw,
        )

    def _collecting(self, phase: str, _info: dict[str, int]) -> None:
        now = time.monotonic_ns()
        ended, since = self._gc
        if phase == "start":
            self._gc = ended, now
        elif since is not None:
            self._gc = ended + now - since, None
            self._held_up("gc", since, now)

    def _held_up(self, kind: str, since: int, now: int) -> None:
        if now - since >= _PAUSE:
            self._pauses.append(HeldUp(kind, since, now - since))

    def pauses_before(self, end: int) -> tuple[HeldUp, ...]:
        """Take out those that began before ``end`` (nanoseconds of the monotonic clock): the longest, in order."""
        found = []
        while self._pauses and self._pauses[0].start < end:
            found.append(self._pauses.popleft())
        longest = sorted(found, key=lambda one: one.duration)[-_LONGEST:]
        return tuple(sorted(longest, key=lambda one: one.start))

    def _collected(self) -> int:
        """Up to now: the part of a collection that lies before a step's boundary belongs to that step."""
        ended, since = self._gc
        return ended if since is None else ended + max(0, time.monotonic_ns() - since)

    def _open_schedstat(self) -> None:
        with contextlib.suppress(OSError):  # not Linux, or a kernel without scheduler statistics
            self._schedstat = os.open(_SCHEDSTAT, os.O_RDONLY)

    def _close_schedstat(self) -> None:
        if self._schedstat >= 0:
            os.close(self._schedstat)
        self._schedstat = -1

    def _run_queue(self) -> int | None:
        try:
            return int(os.pread(self._schedstat, 96, 0).split()[1])
        except (OSError, ValueError, IndexError):
            return None

    def _patch_loader(self) -> None:
        clock, get_ident = time.monotonic_ns, threading.get_ident

        def make(original: Any) -> Any:
            def next_batch(iterator: Any) -> Any:
                since = clock()
                try:
                    return original(iterator)
                finally:
                    if get_ident() == threading.main_thread().ident:
                        now = clock()
                        self._data += now - since
                        self._held_up("data", since, now)

            next_batch.__name__ = "__next__"
            return next_batch

        self._counts_data = replace_next_batch(self._patches, make)
