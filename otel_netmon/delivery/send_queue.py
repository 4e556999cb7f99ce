"""The way out of a signal: a backlog, and the thread that sends from it."""

from __future__ import annotations

import contextlib
import functools
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_netmon import forks, threads
from otel_netmon.delivery.backlog import Backlog
from otel_netmon.delivery.stats import DeliveryStats
from otel_netmon.delivery.transport import Outcome, Transport
from otel_netmon.sdk.values import Signal
from otel_netmon.text import without_secrets

_BACKOFF: Final = (0.2, 5.0)
_ADOPT_EVERY: Final = 10.0
_LAST_ANSWER: Final = 0.5
"""Seconds that the answer to the last request is waited for at the end: else it may be delivered twice."""
_draw: Final = random.SystemRandom().uniform


class SendQueue:
    """``put`` never waits for the collector; one thread sends, oldest first.

    Delivery is at least once: what was taken and not acknowledged is sent again, with the same span ids.
    """

    def __init__(self, connect: Callable[[], Transport], signal: Signal, folder: Path, max_bytes: int) -> None:
        self._make_transport = connect
        self._signal = signal
        self._make_backlog = functools.partial(Backlog, signal, folder, max_bytes)
        self._reset()
        forks.register(self)

    def _reset(self) -> None:
        self._backlog = self._make_backlog()
        self._transport: Transport | None = None
        self._lock = threads.RLock()
        self._wake = threads.Event()
        self._closing = False
        self._hurry = False
        """Whether the pause between two attempts is to be cut short."""
        self._thread: threads.Running | None = None

    @property
    def stats(self) -> DeliveryStats:
        """What became of it so far."""
        return self._backlog.stats

    def spool_size(self) -> int:
        """Bytes that wait on disk."""
        return self._backlog.spool.size

    def put(self, data: bytes, items: int) -> bool:
        """Take over a request. False when it is lost. Costs a write to the disk while the collector is away."""
        with self._lock:
            kept = self._backlog.put(data, items)
            if not self._closing:
                if self._thread is None:
                    # the interpreter ends, or no thread is left: the spool keeps it
                    with contextlib.suppress(RuntimeError):
                        self._thread = threads.start(self._run, f"otel-netmon-{self._signal}-sender")
                self._wake.set()
        return kept

    def _wait(self, seconds: float) -> bool:
        """Whether something new comes within ``seconds``. Lock held, once."""
        self._wake.clear()
        self._lock.release()
        try:
            return self._wake.wait(seconds)
        finally:
            self._lock.acquire()

    def _run(self) -> None:
        backoff, adopted = _BACKOFF[0], -_ADOPT_EVERY
        while True:
            with self._lock:
                request = self._backlog.next()
                if request is None:
                    if self._closing:
                        return
                    if self._wait(_ADOPT_EVERY):
                        continue
            if request is None:
                adopts = not self.stats.failing
            else:
                outcome = self._send(request.data)
                adopts = outcome.kind == "delivered" and time.monotonic() - adopted > _ADOPT_EVERY
                with self._lock:
                    self._backlog.settle(request, outcome)
                    if outcome.kind != "retry":
                        backoff = _BACKOFF[0]
                    else:
                        self._pause(backoff * _draw(0.8, 1.2), outcome.after)
                        backoff = min(2 * backoff, _BACKOFF[1])
                        if self._closing:
                            return
            if adopts:
                self._backlog.adopt()
                adopted = time.monotonic()

    def _pause(self, seconds: float, asked_for: float | None) -> None:
        """Between two attempts, lock held. The end cuts it short, unless the collector has asked for it."""
        until = time.monotonic() + (seconds if asked_for is None else asked_for)
        self._hurry = False
        while (left := until - time.monotonic()) > 0 and not self._closing:
            if self._hurry and asked_for is None:
                return
            self._wait(min(left, _ADOPT_EVERY))  # a lock cannot be waited for as long as one may ask

    def connect(self) -> Transport:
        """Make the connection, if there is none in this process. Raises what its maker raises."""
        if self._transport is None:
            self._transport = self._make_transport()
            self.stats.endpoint = without_secrets(self._transport.endpoint)
        return self._transport

    def _send(self, data: bytes) -> Outcome:
        with suppress_instrumentation():  # of requests and gRPC: each export would be one more span to export
            try:
                transport = self.connect()
            except LookupError as error:
                return Outcome("retry", f"{error}; update otel-netmon")
            except Exception as error:  # noqa: BLE001  # the data is kept, whatever is wrong with the settings
                return Outcome("retry", type(error).__name__)
            return transport.send(data, transport.timeout)

    def flush(self, timeout: float) -> bool:
        """Wait until all is taken, for ``timeout`` seconds at most; at once where the collector is away."""
        ended = self._comes(lambda: self.stats.failing or self._backlog.is_empty, timeout)
        return ended and not self.stats.failing

    def _comes(self, condition: Callable[[], bool], timeout: float) -> bool:
        """Whether ``condition``, which is asked under the lock, holds within ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            with self._lock:
                if condition():
                    return True
            time.sleep(0.01)
        return False

    def close(self, timeout: float) -> None:
        """Send what there is for ``timeout`` seconds at most, and leave the rest on disk."""
        if self.stats.failing and timeout > 0:  # one attempt now: it may be back, and the next run far away
            with self._lock:
                before, self._hurry = self.stats.retries, True
                self._wake.set()
            self._comes(lambda: not self.stats.failing or self.stats.retries > before, _LAST_ANSWER)
        self.flush(timeout)
        with self._lock:
            if self._closing:
                return
            self._closing = True
            self._backlog.close()
            self._wake.set()
            thread = self._thread
        if thread is not None:
            thread.join(_LAST_ANSWER)
        is_sending = thread is not None and thread.is_alive()
        if not is_sending and self._transport is not None:
            self._transport.close()
        with self._lock:
            self._backlog.leave(is_sending=is_sending)

    def after_fork_in_child(self) -> None:
        """Forget what is the parent's to deliver; a connection of its own is made when there is something."""
        self._backlog.spool.disown()
        _parents.append(self._transport)
        self._reset()


_parents: Final[list[Transport | None]] = []
"""In a forked child: the parent's connections. Closing them here could shut them down there."""
