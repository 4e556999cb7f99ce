"""What this rank will tell next: filled by the thread that makes spans, emptied by the one that tells."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from otel_netmon import threads
from otel_netmon.diagnosis.steps import StepSample
from otel_netmon.live.digest import MOST_PEERS, MOST_STEPS, Digest, DigestedCall, DigestedStep, GroupHead
from otel_netmon.records import PeerTraffic


@dataclass(frozen=True)
class Standing:
    """Where this rank is now, as whoever captures its collectives sees it."""

    open_since: int | None = None
    groups: tuple[GroupHead, ...] = ()
    calls: tuple[DigestedCall, ...] = ()
    """The last ones, if one of them hangs or failed."""


class Outbox:
    """Bounded: the oldest of what nobody took goes first."""

    def __init__(
        self,
        rank: int,
        world_size: int,
        host: str,
        *,
        clock: Callable[[], int],
        standing: Callable[[], Standing],
        throttled: Callable[[], int | None] = lambda: None,
    ) -> None:
        """``clock`` gives the nanoseconds that steps and calls are told in, ``throttled`` those for which a CPU
        quota has stopped this process."""
        self._about = rank, world_size, host
        self._clock = clock
        self._standing = standing
        self._throttled = throttled
        self._lock = threads.Lock()
        self._steps: deque[DigestedStep] = deque(maxlen=MOST_STEPS)
        self._untold = 0
        """Of these, those that were in no digest."""
        self._stride = 1
        self._traffic: deque[PeerTraffic] = deque(maxlen=8 * MOST_PEERS)
        self._number = 0

    def step(self, number: int, tie: int, sample: StepSample) -> None:
        """A complete step. Of more than a digest takes every second is told, or fourth, …: the same on all ranks,
        for ``tie`` decides."""
        with self._lock:
            if tie % self._stride:
                return
            self._steps.append(DigestedStep(number, tie, sample))
            self._untold += 1
            if self._untold > MOST_STEPS // 2:
                self._stride *= 2
                kept = [each for each in self._steps if not each.tie % self._stride]
                self._untold = sum(not each.tie % self._stride for each in list(self._steps)[-self._untold :])
                self._steps = deque(kept, MOST_STEPS)

    def traffic(self, readings: Iterable[PeerTraffic]) -> None:
        """Readings of this rank's connections; those that moved most, or do not move at all, are told."""
        with self._lock:
            self._traffic.extend(readings)

    def next(self, *, is_last: bool = False) -> Digest:
        """The next digest. Each step is in two of them, for one may be overwritten before it is read; each reading
        is in one."""
        standing, throttled = self._standing(), self._throttled()
        with self._lock:
            steps, traffic = tuple(self._steps), list(self._traffic)
            told = len(self._steps) - self._untold
            for _ in range(told):
                self._steps.popleft()
            if self._untold < MOST_STEPS // 16 and self._stride > 1:
                self._stride //= 2
            self._untold = 0
            self._traffic.clear()
            self._number += 1
            number = self._number
        traffic.sort(key=lambda each: (each.backoff, each.bytes_sent or 0))
        return Digest(
            *self._about,
            number,
            self._clock(),
            standing.open_since,
            is_last,
            None if throttled is None else throttled // 1000,
            steps,
            tuple(traffic[-MOST_PEERS:]),
            standing.groups,
            standing.calls,
        )
