"""What a training step is: from one optimizer step to the next, or what ``with otel_netmon.step():`` encloses.

Every optimizer step and every ``step()`` is a *boundary*. An event gets the number of boundaries so far when it
begins; which step that is is worked out here, later. In a loop with several optimizers (a GAN, a wrapped one) a
step is a cycle of them, from the one that stepped first in the job to the last before it steps again.

What comes before the last construction of an optimizer or of DDP ahead of the first step is setup, not step 0.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from otel_netmon import forks, threads
from otel_netmon.job.steps import SETUP, HeldUp, Step, StepMarks
from otel_netmon.records import ResourceUsage

_HELD: Final = 4096
"""Closed steps kept until they are emitted; far more than ever wait."""


class _At(NamedTuple):
    """A moment: monotonic ns, what was used until then, and how many collectives of all ranks had begun."""

    time: int
    used: ResourceUsage
    begun: int


class StepTracker:
    """Turns boundaries into steps. Safe to use from any thread."""

    def __init__(
        self,
        clock: Callable[[], int] = time.monotonic_ns,
        read: Callable[[], ResourceUsage] = ResourceUsage,
        begun: Callable[[], int] = lambda: 0,
        pauses: Callable[[int], tuple[HeldUp, ...]] = lambda _: (),
    ) -> None:
        self._lock = threads.RLock()
        self._clock = clock
        self._read = read
        self._begun = begun
        self._pauses = pauses
        self.marked = False
        """Whether there was any boundary of a step, an optimizer's or an explicit one."""
        self.from_the_start = False
        """Whether capture began before any optimizer could be made."""
        self._setup: tuple[int, _At] | None = None
        """Where what is setup so far ends: boundary and moment."""
        self.boundaries = 0
        """How many so far. Read by the recorder without the lock: it only ever grows."""
        self._listener: Callable[[int], object] | None = None
        self._start = _At(clock(), ResourceUsage(), 0)
        self._last = self._start
        self._without_collectives = 0
        """Steps that started since the last collective of all ranks began."""
        self._closed: list[Step] = []
        self._next = 0
        self._leader: int | None = None
        self._cycle: list[int] = []
        self._expected: list[int] = []
        self._explicit = False
        self._depth = 0
        self._settled = -1
        self._has_begun = False
        self._boundary_times: deque[int] = deque(maxlen=_HELD)
        forks.register(self)

    def after_fork_in_child(self) -> None:
        """The steps so far are the parent's; what it knows of optimizers holds here too."""
        self._lock = threads.RLock()
        self._closed = []
        self._depth = 0

    def listen(self, listener: Callable[[int], object] | None) -> None:
        """Have ``listener`` called with ``boundaries``, now and whenever it changes. It must not raise."""
        with self._lock:
            self._listener = listener
            if listener is not None:
                listener(self.boundaries)

    def _now(self) -> _At:
        return _At(self._clock(), self._read(), self._begun())

    def begin(self, now: int | None = None) -> None:
        """The first step, or the setup, starts now: what came before had no collective."""
        with self._lock:
            if not self._has_begun and not self.marked:
                self._has_begun = True
                self._open(self._now() if now is None else self._now()._replace(time=now))

    def joined(self, *, again: bool) -> None:
        """A job begins: its ranks count their collectives from 0. What is open belongs to the one before, if there
        was one (``again``), and ends here."""
        with self._lock:
            if again:
                if self._cycle:
                    self._close(self.boundaries, self._last)
                self._add_boundary()
                self._close(self.boundaries, self._now(), None if self.marked else SETUP, complete=False)
                if not self.marked:
                    self._setup, self._settled = None, -1
            self._start = self._start._replace(begun=0)
            self._last = self._last._replace(begun=0)
            self._without_collectives = 0

    def constructed(self) -> None:
        """An optimizer or a wrapper of the model was made. Before the first step, what came so far was setup."""
        with self._lock:
            if not self.marked:
                self._add_boundary()
                self._setup = self.boundaries, self._now()

    def _first_boundary(self) -> None:
        """The first step ends, or begins explicitly: what is setup is certain now."""
        self.marked = True
        self._settled = self.boundaries
        if self._setup is not None:
            self._close(*self._setup, index=SETUP)
            self._setup = None

    def optimizer_stepped(self, optimizer: object) -> None:
        """An optimizer's ``step()`` returned. Ignored once steps are marked explicitly."""
        with self._lock:
            if self._explicit:
                return
            now = self._now()
            if not self.marked:
                self._first_boundary()
            key = id(optimizer)
            if self._leader is None:
                self._leader = key
            if self._cycle and (key == self._leader or key in self._cycle):
                # The loop came round: the step ended with the boundary before this one.
                if self._leader not in self._cycle and key in self._cycle:
                    self._leader = self._cycle[0]  # the one that stepped first is no longer used
                self._close(self.boundaries, self._last)
            self._cycle.append(key)
            self._add_boundary()
            self._last = now
            if self._cycle == self._expected:
                self._close(self.boundaries, now)

    @contextmanager
    def step(self) -> Iterator[None]:
        """One training step, as the user marks it; from then on optimizers mark none. Nested ones are one."""
        with self._lock:
            if not self._explicit:
                if not self.marked:
                    self.constructed()
                    self._first_boundary()
                self._explicit = True
                if self._cycle:
                    self._close(self.boundaries, self._last)
            self._depth += 1
            if self._depth == 1:
                self._open(self._now())
        try:
            yield
        finally:
            with self._lock:
                self._depth -= 1
                if self._depth == 0:
                    self._add_boundary()
                    self._close(self.boundaries, self._now())

    def _add_boundary(self) -> None:
        self.boundaries += 1
        if self._listener is not None:
            self._listener(self.boundaries)
        self._boundary_times.append(self._clock())

    def boundaries_at(self, time: int) -> int:
        """The boundary at a time of the monotonic clock, as far back as the last some thousand."""
        with self._lock:
            return self.boundaries - len(self._boundary_times) + bisect_right(self._boundary_times, time)

    def _open(self, at: _At) -> None:
        """The open step starts at ``at``; its key, and what came since the last one, stay its own."""
        self._start = at._replace(begun=self._start.begun)

    def _close(self, boundary: int, at: _At, index: int | None = None, *, complete: bool = True) -> None:
        if len(self._closed) < _HELD:
            self._closed.append(self._step(self._next if index is None else index, boundary, at, complete))
        if index is None:
            self._next += 1
            self._without_collectives = self._without_collectives + 1 if at.begun == self._start.begun else 0
        self._settled = boundary
        self._start = at
        if self._cycle:
            self._expected, self._cycle = self._cycle, []

    def _step(self, index: int, boundary: int, at: _At, complete: bool) -> Step:
        used = at.used.since(self._start.used)
        pauses = self._pauses(at.time)
        return Step(index, boundary, self._start.time, at.time, complete, used, self._key(), pauses)

    def _key(self) -> str:
        return f"{self._start.begun}.{self._without_collectives}"

    def take(self) -> StepMarks:
        """What ended since the last call, and what is known of the open step."""
        with self._lock:
            closed, self._closed = self._closed, []
            setup_until = 0
            if not self.marked and self.from_the_start:
                setup_until = self.boundaries + 1 if self._setup is None else self._setup[0]
            return StepMarks(closed, self._next, self._settled, self._key(), setup_until)

    @property
    def never_constructed(self) -> bool:
        """Whether no optimizer was ever made and no step marked."""
        return self.from_the_start and not self.marked and self._setup is None

    def unmarked(self) -> int:
        """For how long, in nanoseconds, there has been no boundary; 0 once there was one."""
        with self._lock:
            return 0 if self.marked else self._clock() - self._start.time

    def finish(self) -> Step:
        """Close an undecided cycle and return what is still open, at the end of the process."""
        with self._lock:
            if self._cycle:
                self._close(self.boundaries, self._last)
            return self._step(self._next, self.boundaries, self._now(), complete=False)
