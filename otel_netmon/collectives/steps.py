"""What a training step is: from one optimizer step to the next, or what ``with otel_netmon.step():`` encloses.

Every optimizer step and every explicit mark is a *tick*. Capture stamps an event with the tick it began under
(one attribute read); which step a tick belongs to is worked out here, later. So a loop with several optimizers
(a GAN, a wrapped optimizer) needs no guess on the training thread: a step is a cycle of optimizers, from the one
that stepped first in the job to the last before it steps again. The rule sees only the order of calls, which is
the same on all ranks, and so are the numbers.

What comes before the last construction of an optimizer or of DDP ahead of the first step is setup, not step 0.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from otel_netmon.collectives.readings import Readings

SETUP: Final = -1
"""Number of what came before the first step."""

_NOTHING_READ: Final = Readings()
_HELD: Final = 4096
"""Closed steps kept until they are emitted; far more than ever wait."""


@dataclass(frozen=True)
class Step:
    """A step that ended: its number from 0, the last tick in it, start and end in monotonic nanoseconds."""

    index: int
    """``SETUP`` for what came before the first step."""
    last_tick: int
    start: int
    end: int
    complete: bool = True
    """False for the one that was open when the process ended."""
    used: Readings = _NOTHING_READ
    """What the process used in it."""


class StepTracker:
    """Turns optimizer steps and explicit marks into steps. All methods are safe to call from any thread."""

    def __init__(
        self,
        clock: Callable[[], int] = time.monotonic_ns,
        read: Callable[[], Readings] = Readings,
    ) -> None:
        self._lock = threading.RLock()
        self._clock = clock
        self._read = read
        self._at_start = self._at_mark = Readings()
        self.marked = False
        """Whether any step was ever marked, by an optimizer or explicitly."""
        self._setup: tuple[int, int, Readings] | None = None
        """Tick, time and readings at the end of what is setup so far."""
        self.tick = 0
        """Ticks so far. Read by capture without the lock: it only ever grows."""
        self._start = clock()
        self._closed: list[Step] = []
        self._next = 0
        self._leader: int | None = None
        self._cycle: list[int] = []
        self._expected: list[int] = []
        self._last_time = self._start
        self._explicit = False
        self._depth = 0
        self._settled = -1
        self._begun = False
        self._tick_times: deque[int] = deque(maxlen=_HELD)

    def begin(self, now: int | None = None) -> None:
        """The first step, or the setup, starts now: what came before had no collective."""
        with self._lock:
            if not self._begun and not self.marked:
                self._begun = True
                self._start = self._clock() if now is None else now
                self._at_start = self._read()

    def constructed(self) -> None:
        """An optimizer or a wrapper of the model was made. Before the first step, what came so far was setup."""
        with self._lock:
            if not self.marked:
                self._advance()
                self._setup = self.tick, self._clock(), self._read()

    def _first_mark(self) -> None:
        """The first step ends, or is announced: what is setup is certain now."""
        self.marked = True
        self._settled = self.tick
        if self._setup is not None:
            self._close(*self._setup, index=SETUP)
            self._setup = None

    def optimizer_stepped(self, optimizer: object) -> None:
        """An optimizer's ``step()`` returned. Ignored once steps are marked explicitly."""
        with self._lock:
            if self._explicit:
                return
            now, used = self._clock(), self._read()
            if not self.marked:
                self._first_mark()
            key = id(optimizer)
            if self._leader is None:
                self._leader = key
            if self._cycle and (key == self._leader or key in self._cycle):
                # The loop came round: its step ended with the tick before.
                if self._leader not in self._cycle and key in self._cycle:
                    self._leader = self._cycle[0]  # the one that led is no longer used
                self._close(self.tick, self._last_time, self._at_mark)
            self._cycle.append(key)
            self._advance()
            self._last_time, self._at_mark = now, used
            if self._cycle == self._expected:
                self._close(self.tick, now, used)

    @contextmanager
    def step(self) -> Iterator[None]:
        """One training step, said by the user; from then on optimizers say nothing. Nested ones are one."""
        with self._lock:
            if not self._explicit:
                if not self.marked:
                    self.constructed()
                    self._first_mark()
                self._explicit = True
                if self._cycle:
                    self._close(self.tick, self._last_time, self._at_mark)
            self._depth += 1
            if self._depth == 1:
                self._start, self._at_start = self._clock(), self._read()
        try:
            yield
        finally:
            with self._lock:
                self._depth -= 1
                if self._depth == 0:
                    self._advance()
                    self._close(self.tick, self._clock(), self._read())

    def _advance(self) -> None:
        self.tick += 1
        self._tick_times.append(self._clock())

    def tick_at(self, time: int) -> int:
        """The tick at a time of the monotonic clock, as far back as the last some thousand."""
        with self._lock:
            return self.tick - len(self._tick_times) + bisect_right(self._tick_times, time)

    def _close(self, tick: int, now: int, read: Readings, index: int | None = None) -> None:
        if len(self._closed) < _HELD:
            number = self._next if index is None else index
            self._closed.append(Step(number, tick, self._start, now, used=read.since(self._at_start)))
        if index is None:
            self._next += 1
        self._settled = tick
        self._start, self._at_start = now, read
        if self._cycle:
            self._expected, self._cycle = self._cycle, []

    def take(self) -> tuple[list[Step], int, int]:
        """``(closed, open, settled)``: steps that ended since the last call, the open step's number, a tick.

        An event of tick t belongs to the first step with ``last_tick > t``; where there is none, to the open
        step if ``t <= settled``. Beyond that an optimizer has stepped of which it is not yet known whether it
        was the last of its cycle: ask again later.
        """
        with self._lock:
            closed, self._closed = self._closed, []
            return closed, self._next, self._settled

    def unmarked(self) -> int:
        """For how long, in nanoseconds, nothing has marked a step; 0 once something did."""
        with self._lock:
            return 0 if self.marked else self._clock() - self._start

    def finish(self) -> Step:
        """Close an undecided cycle and return what is still open, at the end of the process."""
        with self._lock:
            if self._cycle:
                self._close(self.tick, self._last_time, self._at_mark)
            used = self._read().since(self._at_start)
            return Step(self._next, self.tick, self._start, self._clock(), complete=False, used=used)
