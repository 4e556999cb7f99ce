"""Requests on their way: sent from memory while the collector takes them, kept on disk when it does not."""

from __future__ import annotations

import contextlib
import functools
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from otel_netmon import forks, semconv, threads
from otel_netmon.delivery.account import Account
from otel_netmon.delivery.spool import Spool, SpoolError
from otel_netmon.delivery.wire import Outcome, Signal, Wire

_HOLD: Final = 0.5
"""Seconds that a request may wait in memory alone."""
_MEMORY: Final = 8 << 20
"""Bytes that may wait in memory alone."""
_BACKOFF: Final = (0.2, 5.0)
_ADOPT_EVERY: Final = 10.0
_LAST_ANSWER: Final = 0.5
"""Seconds that the answer to the last request is waited for at the end: else it may be delivered twice."""
_draw: Final = random.SystemRandom().uniform


@dataclass
class _Parcel:
    data: bytes
    items: int
    since: float


class Outbox:
    """The way out of one signal. ``put`` never waits for the collector; one thread sends, oldest first.

    While the collector takes what it is sent, nothing touches the disk. A request that failed, or that waited for
    half a second, goes to the spool with everything behind it, in order, and is delivered from there. So a process
    that is killed leaves on disk what was older than that. Delivery is at least once: what was taken and not
    acknowledged is sent again, with the same span ids.
    """

    def __init__(
        self,
        connect: Callable[[], Wire],
        signal: Signal,
        folder: Path,
        max_bytes: int,
        max_age: float = 86_400.0,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._signal = signal
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._clock = clock
        self._reset()
        forks.register(self)

    def _reset(self) -> None:
        self.account = Account(self._signal, self._clock)
        self._wire: Wire | None = None
        self._lock = threads.RLock()
        """Reentrant: what we log may come back here, where the user exports the process's log."""
        self._wake = threads.Event()
        self._queue: deque[_Parcel] = deque()
        self._bytes = 0
        self._sending: _Parcel | None = None
        self._spool = Spool(
            self._folder,
            self._signal,
            self._max_bytes,
            dropped=functools.partial(self.account.lose, semconv.REASON_SPOOL_FULL),
            damaged=functools.partial(self.account.lose, semconv.REASON_SPOOL_DAMAGED),
        )
        self._behind = False
        """Whether the spool has something: then all goes through it, to keep the order."""
        self._no_spool = False
        self._spilling = False
        self._closing = False
        self._hurry = False
        """Whether the pause between two attempts is to be cut short."""
        self._thread: threads.Running | None = None

    # --- in -------------------------------------------------------------------------------------------------

    def put(self, data: bytes, items: int) -> bool:
        """Take over a request. False when it is lost. Costs a write to the disk while the collector is away."""
        with self._lock:
            if self._closing:
                kept = self._keep(data, items)
                self.account.lose(semconv.REASON_NO_SPOOL, 0 if kept else items)
                return kept
            self._queue.append(_Parcel(data, items, self._clock()))
            self._bytes += len(data)
            if self._is_late():
                self._spill()
            if self._thread is None:
                self._start()
            self._wake.set()
        return True

    def _is_late(self) -> bool:
        oldest = self._sending or self._queue[0]
        late = self._clock() - oldest.since > _HOLD
        return self.account.failing or self._behind or late or self._bytes > _MEMORY

    def _spill(self) -> None:
        """Put what waits in memory on disk, lock held. Where that cannot be, the oldest go beyond the bound."""
        if self._spilling:  # what was logged in here came back: it is in the queue, and gets its turn
            return
        self._spilling = True
        try:
            one = self._sending
            if one is not None and self._spool.sending is None and not self._behind:
                self._spool.sending = self._spool.newest if self._keep(one.data, one.items) else None
            while self._queue and self._keep(self._queue[0].data, self._queue[0].items):
                self._bytes -= len(self._queue.popleft().data)
            while self._bytes > _MEMORY and self._queue:
                self._lose_oldest()
        finally:
            self._spilling = False

    def _lose_oldest(self) -> None:
        parcel = self._queue.popleft()
        self._bytes -= len(parcel.data)
        self.account.lose(semconv.REASON_NO_SPOOL, parcel.items)

    def _keep(self, data: bytes, items: int) -> bool:
        if self._no_spool:
            return False
        try:
            kept = self._spool.append(data, items)
        except SpoolError as error:
            self._no_spool = True
            self.account.no_disk(error.strerror or str(error), _MEMORY >> 20)
            return False
        self._behind = self._behind or kept
        return kept

    # --- out ------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        name = f"otel-netmon-{self._signal}-sender"
        with contextlib.suppress(RuntimeError):  # the interpreter ends, or no thread is left: the spool keeps it
            self._thread = threads.start(self._run, name)

    def _wait(self, seconds: float) -> None:
        """Until something is new, lock held, once."""
        self._wake.clear()
        self._lock.release()
        try:
            self._wake.wait(seconds)
        finally:
            self._lock.acquire()

    def _run(self) -> None:
        backoff, adopted = _BACKOFF[0], -_ADOPT_EVERY
        while True:
            with self._lock:
                parcel = self._next()
                while parcel is None:
                    if self._closing:
                        return
                    self._wait(_ADOPT_EVERY)
                    if not self._queue and not self._behind and not self.account.failing:
                        break
                    parcel = self._next()
            if parcel is None:
                self._adopt()
                adopted = self._clock()
                continue
            outcome = self._send(parcel.data)
            with self._lock:
                self._settle(parcel, outcome)
                if outcome.kind == "retry":
                    pause = outcome.after if outcome.after is not None else backoff * _draw(0.8, 1.2)
                    backoff = min(2 * backoff, _BACKOFF[1])
                    self._pause(pause, told=outcome.after is not None)
                    if self._closing:
                        return
                else:
                    backoff = _BACKOFF[0]
            if outcome.kind == "delivered" and self._clock() - adopted > _ADOPT_EVERY:
                adopted = self._clock()
                self._adopt()

    def _pause(self, seconds: float, *, told: bool) -> None:
        """Between two attempts, lock held. The end cuts it short, unless the collector named the time."""
        until = self._clock() + seconds
        self._hurry = False
        while not self._closing and (told or not self._hurry) and (left := until - self._clock()) > 0:
            self._wait(left)

    def _next(self) -> _Parcel | None:
        """What is to be sent, lock held: the spool's first, else the queue's."""
        self._spool.sending = None
        if self._behind:
            record = self._spool.sending = self._spool.first()
            if record is not None:
                self._sending = _Parcel(record.data, record.items, self._clock())
                return self._sending
            self._behind = False
        if not self._queue:
            return None
        self._sending = self._queue.popleft()
        self._bytes -= len(self._sending.data)
        return self._sending

    def _settle(self, parcel: _Parcel, outcome: Outcome) -> None:
        """Count what became of an attempt, lock held."""
        if self._sending is not parcel:  # the answer came after the end, which has counted it
            return
        copy, self._spool.sending, self._sending = self._spool.sending, None, None
        if outcome.kind == "retry":
            self.account.refused(outcome.reason, "memory" if self._no_spool else str(self._folder))
            if copy is None:
                self._queue.appendleft(parcel)
                self._bytes += len(parcel.data)
            elif not self._spool.holds(copy):
                # it made room while it was on its way
                self.account.lose(semconv.REASON_SPOOL_FULL, copy.items)
            self._spill()
            return
        self.account.answered()
        if copy is not None:  # where it came from, or what was made while it was on its way
            self._spool.delivered(copy)
        if outcome.kind == "rejected":
            self.account.lose(outcome.reason, parcel.items)
        else:
            self.account.deliver(parcel.items, outcome.rejected)

    def _send(self, data: bytes) -> Outcome:
        if self._wire is None:
            try:
                self._wire = self._connect()
            except Exception as error:  # noqa: BLE001  # the data is kept, whatever is wrong with the settings
                return Outcome("retry", type(error).__name__)
            self.account.endpoint = self._wire.endpoint
        return self._wire.send(data, self._wire.timeout)

    def _adopt(self) -> None:
        """What others left behind, one segment at a time."""
        self._spool.adopt(self._max_age)
        with self._lock:
            self._behind = self._behind or self._spool.first() is not None

    # --- the end --------------------------------------------------------------------------------------------

    def flush(self, timeout: float) -> bool:
        """Wait until all is taken, for ``timeout`` seconds at most; at once where the collector is away."""
        deadline = self._clock() + timeout
        while self._clock() < deadline:
            with self._lock:
                if self.account.failing:
                    return False
                if not self._queue and not self._behind and self._sending is None:
                    return True
            time.sleep(0.01)
        return False

    def _try_once_more(self) -> None:
        """Where attempts failed, make one now: the collector may be back, and the next run far away."""
        with self._lock:
            before, self._hurry = self.account.retries, True
            self._wake.set()
        deadline = self._clock() + _LAST_ANSWER
        while self.account.failing and self.account.retries == before and self._clock() < deadline:
            time.sleep(0.01)

    def close(self, timeout: float) -> None:
        """Send what there is for ``timeout`` seconds at most, and leave the rest on disk."""
        if self.account.failing and timeout > 0:
            self._try_once_more()
        self.flush(timeout)
        with self._lock:
            if self._closing:
                return
            self._closing = True
            if self._sending is not None or self._queue:
                self._spill()
            self._wake.set()
            thread = self._thread
            waiting = self._behind
        if thread is not None:
            thread.join(_LAST_ANSWER)
        if thread is None or not thread.is_alive():
            if self._wire is not None:
                self._wire.close()
            with self._lock:
                self._spool.close()
        self._give_up()
        if waiting:
            self.account.left_behind(str(self._folder))

    def _give_up(self) -> None:
        """What is in memory alone at the end is lost; an answer that comes later changes nothing."""
        with self._lock:
            copy = self._spool.sending
            if self._sending is not None and (copy is None or not self._spool.holds(copy)):
                reason = semconv.REASON_NO_SPOOL if copy is None else semconv.REASON_SPOOL_FULL
                self.account.lose(reason, self._sending.items)
                self._sending = None
            while self._queue:
                self._lose_oldest()

    def spool_size(self) -> int:
        """Bytes that wait on disk."""
        return self._spool.size

    def after_fork_in_child(self) -> None:
        """Forget what is the parent's to deliver; a connection of its own is made when there is something."""
        self._spool.disown()
        _parents.append(self._wire)
        self._reset()


_parents: Final[list[Wire | None]] = []
"""In a forked child: the parent's connections. Closing them here could shut them down there."""
