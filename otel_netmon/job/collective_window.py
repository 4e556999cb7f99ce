"""The collectives that completed lately, kept small: written by the capture side, read by the monitors.

It stands below both so that neither needs to know the other. Memory is bounded (``MAX_SAMPLES``); a write and a
read each take one short lock and do no I/O. What is kept is kept in arrays: a minute of objects, one per
collective, would be work for Python's garbage collector, which stops the training for it.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Final, NamedTuple

from otel_netmon import forks, threads

MAX_SAMPLES: Final = 8192
_NO_FACTOR: Final = -1.0
_AT_ONCE: Final = 512


class SeriesKey(NamedTuple):
    """What collectives of one series have in common."""

    name: str
    backend: str
    group: str


class Column:
    """The collectives of one series: sizes in bytes, durations in seconds, and those again that have a bus
    factor: bytes times that, and their durations. ``fresh`` are the durations that a reader had not seen."""

    __slots__ = ("durations", "fresh", "scaled", "scaled_durations", "sizes")

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.durations: list[float] = []
        self.scaled: list[float] = []
        self.scaled_durations: list[float] = []
        self.fresh: list[float] = []

    def extend(self, other: Column) -> None:
        """Add another series'."""
        for name in self.__slots__:
            getattr(self, name).extend(getattr(other, name))


class CollectiveWindow:
    """The samples of the last ``seconds`` seconds, at most ``MAX_SAMPLES`` of them."""

    def __init__(self, seconds: float = 60.0, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """The parent's collectives are the parent's."""
        self._lock = threads.RLock()
        self._keys: dict[SeriesKey, int] = {}
        self._key = array("q")
        self._ends = array("d")
        self._sizes = array("q")
        self._durations = array("d")
        self._factors = array("d")
        self._dropped = 0
        """How many were there before the first one that is kept."""

    @property
    def _columns(self) -> tuple[array[int], array[float], array[int], array[float], array[float]]:
        return self._key, self._ends, self._sizes, self._durations, self._factors

    def add(self, key: SeriesKey, end: float, size: int, duration: float, factor: float | None) -> None:
        """Add one; see ``extend``."""
        self.extend(key, [end], [size], [duration], factor)

    def extend(
        self,
        key: SeriesKey,
        ends: Sequence[float],
        sizes: Sequence[int],
        durations: Sequence[float],
        factor: float | None,
    ) -> None:
        """Add some that completed at ``ends`` (s of the monotonic clock), with ``sizes`` in bytes of this rank's
        buffer.

        ``durations`` are in seconds from the call to the completion seen on the host; ``factor`` nccl-tests' for
        the operation and group size, ``None`` where there is none. Keeps no object but the first ``key`` of a
        series.
        """
        count = len(ends)
        with self._lock:
            self._key.extend(repeat(self._keys.setdefault(key, len(self._keys)), count))
            self._ends.extend(ends)
            self._sizes.extend(sizes)
            self._durations.extend(durations)
            self._factors.extend(repeat(_NO_FACTOR if factor is None else factor, count))
            if len(self._ends) >= 2 * MAX_SAMPLES:
                self._cut(len(self._ends) - MAX_SAMPLES)

    def _cut(self, count: int) -> None:
        for column in self._columns:
            del column[:count]
        self._dropped += count
        if len(self._keys) > MAX_SAMPLES:  # of groups that came and went
            used = set(self._key)
            names = [key for key, number in self._keys.items() if number in used]
            again = {self._keys[key]: place for place, key in enumerate(names)}
            self._key = array("q", (again[number] for number in self._key))
            self._keys = {key: place for place, key in enumerate(names)}

    def read(self, seen: int = 0) -> tuple[dict[SeriesKey, Column], int]:
        """Those that ended within the window, by series, and what to give as ``seen`` the next time."""
        since = self._clock() - self.seconds
        with self._lock:
            old = max(0, len(self._ends) - MAX_SAMPLES)
            while old < len(self._ends) and self._ends[old] < since:
                old += 1
            if old:
                self._cut(old)
            keys, first = list(self._keys), self._dropped
            numbers, sizes, durations, factors = self._key[:], self._sizes[:], self._durations[:], self._factors[:]
        found: dict[int, Column] = {}
        for places in threads.Pace().pieces(range(len(numbers)), _AT_ONCE):
            for place in places:
                number, size, duration, factor = numbers[place], sizes[place], durations[place], factors[place]
                column = found.get(number)
                if column is None:
                    column = found[number] = Column()
                column.sizes.append(size)
                column.durations.append(duration)
                if factor != _NO_FACTOR:
                    column.scaled.append(size * factor)
                    column.scaled_durations.append(duration)
                if first + place >= seen:
                    column.fresh.append(duration)
        return {keys[number]: column for number, column in found.items()}, first + len(numbers)


window: Final = forks.register(CollectiveWindow())
"""The process's own."""
