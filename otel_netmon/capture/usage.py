"""What this process used in a step: read at the step's boundaries, for some microseconds each.

Everything is a running total; a step's share is the difference of two readings. What this system does not measure
is ``None`` and stays absent.
"""

from __future__ import annotations

import contextlib
import gc
import os
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
    """Reads the totals, from ``install`` to ``remove``. ``blocked`` gives the nanoseconds in ``Work.wait``."""

    def __init__(self, blocked: Callable[[], int]) -> None:
        self._blocked = blocked
        self._gc: tuple[int, int | None] = 0, None
        """Nanoseconds in collections that ended, and since when one is under way. One assignment at a time."""
        self._data = 0
        self._pauses: deque[HeldUp] = deque(maxlen=_HELD)
        self._schedstat: int | None = None
        self._patches = Patches()
        self._counts_data = False
        self._installed = False
        forks.register(self)

    def install(self) -> None:
        """Begin to count. torch must be imported."""
        self._installed = True
        gc.callbacks.append(self._collecting)
        self._open_schedstat()
        guarded(self._patch_loader)

    def remove(self) -> None:
        """Put everything back."""
        if not self._installed:
            return
        self._installed = False
        with contextlib.suppress(ValueError):  # taken out by somebody else
            gc.callbacks.remove(self._collecting)
        if self._schedstat is not None:
            os.close(self._schedstat)
            self._schedstat = None
        self._patches.remove()
        self._counts_data = False

    def after_fork_in_child(self) -> None:
        """The open file is still the parent's, and a collection may have been under way there."""
        self._gc = 0, None
        self._pauses.clear()
        if self._schedstat is not None:
            os.close(self._schedstat)
            self._open_schedstat()

    def read(self) -> ResourceUsage:
        """The totals now. Some 5 µs."""
        if not self._installed:
            return ResourceUsage()
        cpu, voluntary, involuntary = _cpu_and_switches()
        data = self._data if self._counts_data else None
        return ResourceUsage(
            self._blocked(), self._collected(), data, cpu, self._run_queue(), voluntary, involuntary
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
        try:
            self._schedstat = os.open(_SCHEDSTAT, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # not Linux, or a kernel without scheduler statistics
            self._schedstat = None

    def _run_queue(self) -> int | None:
        if self._schedstat is None:
            return None
        try:
            return int(os.pread(self._schedstat, 96, 0).split()[1])
        except (OSError, ValueError, IndexError):
            return None

    def _patch_loader(self) -> None:
        main = threading.main_thread().ident
        clock, get_ident = time.monotonic_ns, threading.get_ident

        def make(original: Any) -> Any:
            def next_batch(iterator: Any) -> Any:
                since = clock()
                try:
                    return original(iterator)
                finally:
                    if get_ident() == main:
                        now = clock()
                        self._data += now - since
                        self._held_up("data", since, now)

            next_batch.__name__ = "__next__"
            return next_batch

        self._counts_data = replace_next_batch(self._patches, make)


def _cpu_and_switches() -> tuple[int | None, int | None, int | None]:
    """Of all threads: nanoseconds on a CPU, voluntary and involuntary context switches."""
    try:
        import resource
    except ImportError:  # not on Windows
        return None, None, None
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return int((usage.ru_utime + usage.ru_stime) * 1e9), usage.ru_nvcsw, usage.ru_nivcsw
