"""The requests of a signal that wait: in memory while the collector takes them, on disk when it does not."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_netmon import semconv
from otel_netmon.delivery.segment import Record
from otel_netmon.delivery.spool import Spool, SpoolError
from otel_netmon.delivery.stats import DeliveryStats
from otel_netmon.delivery.transport import Outcome

_HOLD: Final = 0.5
"""Seconds that a request may wait in memory alone."""
_MAX_AGE: Final = 86_400.0
"""Seconds after which what another writer left behind is dropped."""
MEMORY: Final = 8 << 20
"""Bytes that may wait in memory alone."""


@dataclass(eq=False)
class Request:
    """An encoded export request; ``since`` is when it was put, or read from disk."""

    data: bytes
    items: int
    since: float


class Backlog:
    """What was put and is not yet delivered, oldest first; it counts what becomes of each item.

    A request that failed, or that waited for half a second, goes to the spool with everything behind it, in order,
    and is delivered from there. Used under a reentrant lock, but for ``adopt``: what is logged
    here may come back as another request, where the user exports the process's log.
    """

    def __init__(
        self, signal: str, folder: Path, max_bytes: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.stats = DeliveryStats(signal, clock)
        self.sending: Request | None = None
        """What ``next`` gave, until it is settled."""
        self.bytes_in_memory = 0
        """Of what waits there alone, without ``sending``."""
        self._clock = clock
        self._folder = folder
        self._memory: deque[Request] = deque()
        self.spool = Spool(folder, signal, max_bytes, self.stats.lose)
        self._on_disk = False
        """Whether the spool has something: then all goes through it, to keep the order."""
        self._no_spool = False
        self._spilling = False
        self._closed = False

    def in_memory(self) -> list[Request]:
        """What is being sent, and what waits in memory; the first may be on disk as well."""
        return [*filter(None, [self.sending]), *self._memory]

    @property
    def is_empty(self) -> bool:
        """Whether all is delivered, or lost."""
        return not self._memory and not self._on_disk and self.sending is None

    def put(self, data: bytes, items: int) -> bool:
        """Take over a request. False when it is lost. Costs a write to the disk while the collector is away."""
        if self._closed:
            kept = self._keep(data, items) is not None
            self.stats.lose(semconv.REASON_NO_SPOOL, 0 if kept else items)
            return kept
        self._memory.append(Request(data, items, self._clock()))
        self.bytes_in_memory += len(data)
        oldest = self.sending or self._memory[0]
        is_late = self._clock() - oldest.since > _HOLD
        if is_late or self.stats.failing or self._on_disk or self.bytes_in_memory > MEMORY:
            self._spill()
        return True

    def _spill(self) -> None:
        """Put what waits in memory on disk. Where that cannot be, the oldest go beyond the bound."""
        if self._spilling:  # what was logged in here came back: it is in memory, and gets its turn
            return
        self._spilling = True
        try:
            one = self.sending
            if one is not None and self.spool.sending is None and not self._on_disk:
                self.spool.sending = self._keep(one.data, one.items)
            while self._memory and self._keep(self._memory[0].data, self._memory[0].items):
                self._take_oldest()
            while self.bytes_in_memory > MEMORY and self._memory:
                self._lose_oldest()
        finally:
            self._spilling = False

    def _take_oldest(self) -> Request:
        request = self._memory.popleft()
        self.bytes_in_memory -= len(request.data)
        return request

    def _lose_oldest(self) -> None:
        self.stats.lose(semconv.REASON_NO_SPOOL, self._take_oldest().items)

    def _keep(self, data: bytes, items: int) -> Record | None:
        if self._no_spool:
            return None
        try:
            kept = self.spool.append(data, items)
        except SpoolError as error:
            self._no_spool = True
            self.stats.no_disk(error.strerror or str(error), MEMORY >> 20)
            return None
        self._on_disk = self._on_disk or kept is not None
        return kept

    def next(self) -> Request | None:
        """What is to be sent: the spool's first, else the oldest in memory."""
        self.spool.sending = None
        if self._on_disk:
            record = self.spool.sending = self.spool.first()
            if record is not None:
                self.sending = Request(record.data, record.items, self._clock())
                return self.sending
            self._on_disk = False
        if not self._memory:
            return None
        self.sending = self._take_oldest()
        return self.sending

    def settle(self, request: Request, outcome: Outcome) -> None:
        """Count what became of an attempt."""
        if self.sending is not request:  # the answer came after the end, which has counted it
            return
        copy, self.spool.sending, self.sending = self.spool.sending, None, None
        if outcome.kind == "retry":
            if copy is None:
                self._memory.appendleft(request)
                self.bytes_in_memory += len(request.data)
            elif not self.spool.holds(copy):
                # it made room while it was on its way
                self.stats.lose(semconv.REASON_SPOOL_FULL, copy.items)
            self._spill()
            self.stats.attempt_failed(outcome.reason, "memory" if self._no_spool else str(self._folder))
            return
        self.stats.answered()
        if copy is not None:  # where it came from, or what was made while it was on its way
            self.spool.delivered(copy)
        lost = request.items if outcome.kind == "rejected" else min(outcome.rejected, request.items)
        self.stats.delivered += request.items - lost
        self.stats.lose(outcome.reason or semconv.REASON_PARTIAL, lost)

    def adopt(self) -> None:
        """What others left behind, one segment at a time. By the one who sends, without the lock."""
        self.spool.adopt(_MAX_AGE)
        if self.spool.first() is not None:
            self._on_disk = True

    def close(self) -> None:
        """Put all on disk; from now on nothing else takes requests."""
        self._closed = True
        if not self.is_empty:
            self._spill()

    def leave(self, *, is_sending: bool) -> None:
        """After ``close``: leave what is on disk to others, unless ``is_sending``. What is in memory alone is
        lost; an answer that comes later changes nothing."""
        if self.spool.first() is not None:
            self.stats.left_behind(str(self._folder))
        if not is_sending:
            self.spool.close()
        copy = self.spool.sending
        if self.sending is not None and (copy is None or not self.spool.holds(copy)):
            reason = semconv.REASON_NO_SPOOL if copy is None else semconv.REASON_SPOOL_FULL
            self.stats.lose(reason, self.sending.items)
            self.sending = None
        while self._memory:
            self._lose_oldest()
