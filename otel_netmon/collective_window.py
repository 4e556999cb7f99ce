"""The collectives that completed lately, kept small: written by the capture side, read by the monitors.

It stands below both so that neither needs to know the other. Memory is bounded (``MAX_SAMPLES``); a write and a
read each take one short lock and do no I/O.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from otel_netmon import forks, threads

MAX_SAMPLES: Final = 8192


class CollectiveSample(NamedTuple):
    """One completed collective.

    ``end`` is in seconds of the monotonic clock; ``size`` in bytes of this rank's buffer; ``duration`` in
    seconds from the call to the completion seen on the host; ``bus_factor`` is nccl-tests' factor for the
    operation and group size, ``None`` where there is none.
    """

    end: float
    name: str
    backend: str
    group: str
    size: int
    duration: float
    bus_factor: float | None


class CollectiveWindow:
    """The samples of the last ``seconds`` seconds, at most ``MAX_SAMPLES`` of them."""

    def __init__(self, seconds: float = 60.0, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._lock = threads.RLock()
        self._samples: deque[CollectiveSample] = deque(maxlen=MAX_SAMPLES)

    def after_fork_in_child(self) -> None:
        """The parent's collectives are the parent's."""
        self._lock = threads.RLock()
        self._samples.clear()

    def extend(self, samples: list[CollectiveSample]) -> None:
        """Add completed collectives."""
        with self._lock:
            self._samples.extend(samples)

    def snapshot(self) -> tuple[CollectiveSample, ...]:
        """Those that ended within the window, oldest first."""
        since = self._clock() - self.seconds
        with self._lock:
            while self._samples and self._samples[0].end < since:
                self._samples.popleft()
            return tuple(self._samples)


window: Final = forks.register(CollectiveWindow())
"""The process's own."""
