"""For how long CPU quotas have stopped this process: a running total for whoever asks at any moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from otel_netmon.monitors import files, protocols
from otel_netmon.monitors.cgroups import Cgroup, Cgroups
from otel_netmon.monitors.sums import MemberDeltas

_LOOK: Final = 2.0
"""Seconds between two looks at which cgroups there are."""


class ThrottledTime:
    """Nanoseconds, from the first call on. Used by one thread at a time; each user has its own.

    Of several quotas one above another, that which stopped the process longest between two calls counts. A call
    costs some 5 µs for each cgroup that has, or had, a quota, and nothing where there is none; every two seconds
    some 50 µs for a look at whether that has changed. Needs no locks, and raises nothing.
    """

    def __init__(
        self,
        *,
        own: str = "/proc/self",
        mount: Path = Path("/sys/fs/cgroup"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cgroups = Cgroups(own, str(mount))
        self._clock = clock
        self._watched: list[Cgroup] = []
        self._looked = -_LOOK
        self._deltas = MemberDeltas()
        self._total: float | None = None

    def __call__(self) -> int | None:
        """``None`` where no quota was ever in force."""
        now = self._clock()
        if now - self._looked >= _LOOK:
            self._looked = now
            cgroups, _ = self._cgroups.look()
            read = {one: files.try_read(f"{one.folder}/cpu.stat") for one in cgroups}
            self._watched = [one for one, data in read.items() if data and protocols.parse_cpu_stat(data)]
        else:
            read = {one: files.try_read(f"{one.folder}/cpu.stat") for one in self._watched}
        # one without a quota is at 0: that which it gets later counts from there
        counts = {
            one: quota.time if (quota := protocols.parse_cpu_stat(data)) else 0.0
            for one, data in read.items()
            if data
        }
        moved = self._deltas.moved(counts)
        if self._watched:
            more = 0.0 if self._total is None else max((moved.get(one, 0.0) for one in self._watched), default=0.0)
            self._total = (self._total or 0.0) + more
        return None if self._total is None else round(self._total * 1e9)


def _stopped(stat: bytes) -> float:
    quota = protocols.parse_cpu_stat(stat)
    return 0.0 if quota is None else quota.time
