"""What this rank will tell next: filled by the thread that makes spans, emptied by the one that tells."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from otel_netmon import threads
from otel_netmon.diagnosis.steps import StepSample
from otel_netmon.live.digest import (
    MOST_NICS,
    MOST_PEERS,
    MOST_STEPS,
    Digest,
    DigestedCall,
    DigestedStep,
    GroupHead,
)
from otel_netmon.records import HostTraffic, PeerTraffic

AT_ONCE: Final = MOST_STEPS // 4
"""New steps in a digest, at most, if the stride suits."""
_MOST_STRIDE: Final = 1 << 20


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
        self._seen = 0
        """Steps since the last digest, told or not."""
        self._stride = 1
        self._traffic: deque[PeerTraffic] = deque(maxlen=8 * MOST_PEERS)
        self._nics: deque[HostTraffic] = deque(maxlen=MOST_NICS)
        self._number = 0

    def step(self, number: int, tie: int, sample: StepSample) -> None:
        """A complete step."""
        with self._lock:
            self._seen += 1
            if not tie % self._stride:
                self._steps.append(DigestedStep(number, tie, sample))
                self._untold += 1

    @property
    def stride(self) -> int:
        """A power of two: of more steps than are told every second is, or fourth, …, by what ties them to those of
        other ranks. All ranks should have the same."""
        return self._stride

    def suited(self) -> int:
        """The stride that suits the pace of this rank's steps since the last digest."""
        with self._lock:
            seen, stride = self._seen, self._stride
        while seen > AT_ONCE * stride and stride < _MOST_STRIDE:
            stride *= 2
        return stride // 2 if seen < AT_ONCE * stride // 3 and stride > 1 else stride

    def tell_every(self, stride: int) -> None:
        """Use that stride from now on, also for what is still to be told. What is no power of two is ignored."""
        if stride < 1 or stride & (stride - 1) or stride > _MOST_STRIDE:
            return
        with self._lock:
            if stride > self._stride:
                told = len(self._steps) - self._untold
                kept = [each.tie % stride == 0 for each in self._steps]
                self._steps = deque(
                    (each for each, keep in zip(self._steps, kept, strict=True) if keep), MOST_STEPS
                )
                self._untold = sum(kept[told:])
            self._stride = stride

    def traffic(self, readings: Iterable[PeerTraffic]) -> None:
        """Readings of this rank's connections; those that moved most, or do not move at all, are told."""
        with self._lock:
            self._traffic.extend(readings)

    def nics(self, readings: Iterable[HostTraffic]) -> None:
        """Readings of the NICs that this rank uses."""
        with self._lock:
            self._nics.extend(readings)

    def next(self, *, is_last: bool = False) -> Digest:
        """The next digest. Each step is in two of them, for one may be overwritten before it is read; each reading
        is in one."""
        standing, throttled = self._standing(), self._throttled()
        with self._lock:
            steps, traffic, nics = tuple(self._steps), list(self._traffic), tuple(self._nics)
            self._nics.clear()
            told = len(self._steps) - self._untold
            for _ in range(told):
                self._steps.popleft()
            self._untold = self._seen = 0
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
            nics,
        )
