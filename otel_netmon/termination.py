"""SIGTERM: what was recorded gets out before the process dies, also while its main thread is stuck in C.

A launcher ends the ranks that are left with SIGTERM when one of them fails, and a scheduler does so when the time
is up. By default that kills a process on the spot. Here a Python handler, and a thread that the C-level handler
wakes through a pipe, have the data flushed first; then the signal has the effect that it would have had. A handler
that was there before is called as ever, and decides.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

_logger = logging.getLogger(__name__)

_SIGNAL: Final = signal.SIGTERM
_END: Final = b"\0"


class _Handler:
    """Ours, as others see it: equal to the default where it has the default's effect.

    Trainers install a handler of their own only where ``signal.getsignal`` says that there is none.
    """

    def __init__(self, owner: Termination) -> None:
        self._owner = owner

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self._owner.handle(number, frame)

    def __eq__(self, other: object) -> bool:
        return other is self or (other is signal.SIG_DFL and self._owner.dies)

    def __hash__(self) -> int:
        return id(self)


class Termination:
    """Calls ``flush`` in a thread of its own when the process is told to end; at most once.

    ``flush(dies)`` is told whether the process ends with it; it has ``timeout`` seconds, and may raise nothing.
    ``install`` does something in the main thread only, where Python allows handlers; elsewhere all stays as it is.
    """

    def __init__(self, flush: Callable[[bool], None], timeout: float) -> None:
        self._flush = flush
        self._timeout = timeout
        self._before: Any = None
        self._handler = _Handler(self)
        self._installed = False
        self._done = threading.Event()
        self._read = self._write = -1
        self._woke = -1

    def install(self) -> None:
        """Begin to listen. A signal that is ignored stays ignored."""
        if self._installed or threading.current_thread() is not threading.main_thread():
            return
        self._before = signal.getsignal(_SIGNAL)
        if self._before is None or self._before is signal.SIG_IGN:
            return  # not Python's, or not wanted
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK) if hasattr(os, "pipe2") else (-1, -1)
        if self._write >= 0:
            os.set_blocking(self._read, True)
            self._woke = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
            if self._woke != -1:  # an event loop's: it stays, and the handler alone must do
                signal.set_wakeup_fd(self._woke, warn_on_full_buffer=False)
        self._done.clear()
        signal.signal(_SIGNAL, self._handler)
        self._installed = True
        if self._write >= 0 and self._woke == -1:
            threading.Thread(target=self._watch, name="otel-netmon-signals", daemon=True).start()

    def remove(self) -> None:
        """Put back what was there, where nobody else has replaced ours."""
        if not self._installed or threading.current_thread() is not threading.main_thread():
            return
        self._installed = False
        if signal.getsignal(_SIGNAL) is self._handler:
            signal.signal(_SIGNAL, self._before)
        if self._write >= 0:
            if self._woke == -1 and (now := signal.set_wakeup_fd(-1)) not in (self._write, -1):
                signal.set_wakeup_fd(now, warn_on_full_buffer=False)
            with contextlib.suppress(OSError):
                os.write(self._write, _END)

    def after_fork_in_child(self) -> None:
        """The child has its own way to end."""
        if not self._installed:
            return
        self._installed = False
        if signal.getsignal(_SIGNAL) is self._handler:
            signal.signal(_SIGNAL, self._before)
        if self._woke == -1:
            signal.set_wakeup_fd(-1)

    @property
    def dies(self) -> bool:
        """Whether the signal has its default effect."""
        return self._before is signal.SIG_DFL

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The Python handler: in the main thread, once it runs Python again."""
        if self._write < 0 or self._woke != -1:
            threading.Thread(target=self._run, name="otel-netmon-signals", daemon=True).start()
        if not self.dies:
            if callable(self._before):
                self._before(number, frame)
            return
        self._done.wait(self._timeout)
        signal.signal(_SIGNAL, signal.SIG_DFL)
        os.kill(os.getpid(), _SIGNAL)

    def _watch(self) -> None:
        """In a thread: woken by the C-level handler, whatever the main thread does."""
        while True:
            try:
                data = os.read(self._read, 64)
            except OSError:
                return
            if not data or _END in data:
                break
            if int(_SIGNAL) in data and signal.getsignal(_SIGNAL) is self._handler:
                self._run()
                if self.dies:
                    # the main thread may never get to its handler: the default effect, by the C library
                    ctypes.CDLL(None).signal(int(_SIGNAL), None)
                    os.kill(os.getpid(), _SIGNAL)
        for fd in (self._read, self._write):
            with contextlib.suppress(OSError):
                os.close(fd)

    def _run(self) -> None:
        if self._done.is_set():
            return
        worker = threading.Thread(target=self._flushed, name="otel-netmon-last-flush", daemon=True)
        worker.start()
        worker.join(self._timeout)
        if self.dies:
            self._done.set()

    def _flushed(self) -> None:
        try:
            self._flush(self.dies)
        except Exception:  # the process is ending: nothing of ours may keep it, or be seen
            _logger.debug("otel-netmon: the last flush failed", exc_info=True)
