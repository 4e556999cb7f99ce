"""SIGTERM: what was recorded gets out before the process dies, also while its main thread is stuck in C.

Launchers and schedulers end ranks with SIGTERM, which by default kills a process on the spot. Here a Python
handler, and a thread that the C-level handler wakes through a pipe, have the data flushed first; then the signal
has the effect that it would have had. A handler of others, whether it came before ours or later, decides.

The pipe takes the place of the wakeup descriptor. Code that sets one after us (asyncio does) gets every
byte passed on, and the same return values; code that sets the default handler again gets ours, which has the same
effect. For both, two functions of the module ``signal`` are replaced while we are installed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from otel_netmon import forks, threads
from otel_netmon.guard import guarded
from otel_netmon.patches import Patches

_SIGNAL: Final = signal.SIGTERM
_END: Final = b"\0"


class _Handler:
    """Ours, as others see it: equal to the default where it has the default's effect.

    Trainers install a handler of their own only where ``signal.getsignal`` says that there is none.
    """

    def __init__(self, owner: Termination) -> None:
        self._owner = owner

    def __call__(self, number: int, frame: FrameType | None) -> None:
        # Python calls a handler from the frame that was interrupted; another caller is another's handler, which
        # could not have called the default that ours stands for: so the process goes on.
        self._owner.handle(number, frame, chained=sys._getframe(1) is not frame)

    def __eq__(self, other: object) -> bool:
        return other is self or (other is signal.SIG_DFL and self._owner.dies)

    def __hash__(self) -> int:
        return id(self)


class Termination:
    """Calls ``flush`` in a thread of its own when the process receives SIGTERM.

    ``flush(dies)``: whether the process ends with it; it has ``timeout`` seconds. ``install`` and ``remove`` may
    be repeated, and do something in the main thread only, where Python allows handlers.
    """

    def __init__(self, flush: Callable[[bool], None], timeout: float) -> None:
        self._flush = flush
        self._timeout = timeout
        self._before: Any = None
        self._handler = _Handler(self)
        self._patches = Patches()
        self._installed = False
        self._lock = threads.RLock()
        self._done: threads.Event | None = None
        """Of the flush that is under way, or was the latest."""
        self._last = False
        """Whether the process ends with it."""
        self._read = self._write = -1
        self._theirs = -1
        """The wakeup descriptor that others set, and have, as far as they can see."""
        forks.register(self)

    def install(self) -> None:
        """Begin to listen. A signal that is ignored stays ignored."""
        if self._installed or threading.current_thread() is not threading.main_thread():
            return
        self._before = signal.getsignal(_SIGNAL)
        if self._before is None or self._before is signal.SIG_IGN:
            return  # not Python's, or not wanted
        self._done, self._last = None, False
        self._installed = True
        self._listen()
        signal.signal(_SIGNAL, self._handler)
        self._patches.put(signal, "signal", self._keeping_ours)

    def _listen(self) -> None:
        """Have signals wake a thread of ours, whatever the main thread does."""
        read, write = os.pipe()  # not inherited
        os.set_blocking(write, False)
        try:
            threads.start(self._watch, "otel-netmon-signals", read, write)
        except RuntimeError:  # no thread to be had: the handler alone must do
            os.close(read)
            os.close(write)
            return
        self._read, self._write = read, write
        self._theirs = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._patches.put(signal, "set_wakeup_fd", self._passing_on)

    def remove(self) -> None:
        """Put back what was there, where nobody else has replaced ours."""
        if not self._installed or threading.current_thread() is not threading.main_thread():
            return
        self._installed = False
        self._give_back()
        if self._write >= 0:
            with contextlib.suppress(OSError):
                os.write(self._write, _END)  # the thread closes both ends
            self._read = self._write = -1

    def _give_back(self) -> None:
        self._patches.remove()
        if signal.getsignal(_SIGNAL) is self._handler:
            signal.signal(_SIGNAL, self._before)
        if self._write >= 0:
            try:
                now = signal.set_wakeup_fd(self._theirs, warn_on_full_buffer=False)
            except (OSError, ValueError):  # closed meanwhile
                now = signal.set_wakeup_fd(-1)
            if now not in (self._write, -1):  # set by somebody who had the original function
                signal.set_wakeup_fd(now, warn_on_full_buffer=False)

    def after_fork_in_child(self) -> None:
        """The child has its own way to end."""
        self._lock = threads.RLock()
        if not self._installed:
            return
        self._installed = False
        self._give_back()
        for fd in (self._read, self._write):
            if fd >= 0:
                os.close(fd)
        self._read = self._write = -1

    def _keeping_ours(self, original: Any) -> Any:
        """``signal.signal``: who sets the default, as asyncio does at its end, gets ours in its place."""

        def set_handler(signalnum: Any, handler: Any) -> Any:
            if signalnum == _SIGNAL and handler == signal.SIG_DFL and self._installed:
                before = original(signalnum, self._handler)
                self._before = signal.SIG_DFL
                return before
            return original(signalnum, handler)

        set_handler.__name__, set_handler.__doc__ = "signal", original.__doc__
        return set_handler

    def _passing_on(self, original: Any) -> Any:
        """``signal.set_wakeup_fd``: theirs is remembered, and ours stays; ``_watch`` passes on what comes."""

        def set_wakeup_fd(fd: int, *, warn_on_full_buffer: bool = True) -> Any:
            now = original(fd, warn_on_full_buffer=warn_on_full_buffer)  # raises where theirs cannot be
            if not self._installed or self._write < 0:
                return now
            original(self._write, warn_on_full_buffer=False)
            before, self._theirs = self._theirs, fd
            return before if now == self._write else now

        set_wakeup_fd.__doc__ = original.__doc__
        return set_wakeup_fd

    @property
    def dies(self) -> bool:
        """Whether the signal has its default effect where ours is the handler."""
        return self._before is signal.SIG_DFL

    def handle(self, number: int, frame: FrameType | None, *, chained: bool = False) -> None:
        """The Python handler: in the main thread, once it runs Python again; or called by another's handler."""
        dies = self.dies and not chained
        done = self._begin_flush(dies)
        if callable(self._before) and not self.dies:
            self._before(number, frame)
            return
        done.wait(self._timeout)
        if dies:
            _default_effect()

    def _watch(self, read: int, write: int) -> None:
        """In a thread: woken by the C-level handler, whatever the main thread does."""
        while True:
            try:
                data = os.read(read, 64)
            except OSError:
                break
            if not data or _END in data:
                break
            if self._theirs >= 0:
                with contextlib.suppress(OSError):  # full or closed: Python does no more about it
                    os.write(self._theirs, data)
            if int(_SIGNAL) in data:
                dies = self.dies and signal.getsignal(_SIGNAL) is self._handler
                done = self._begin_flush(dies)
                if dies:
                    done.wait(self._timeout)
                    _default_effect()  # the main thread may never get to its handler
        for fd in (read, write):
            with contextlib.suppress(OSError):
                os.close(fd)

    def _begin_flush(self, dies: bool) -> threads.Event:
        """Start a flush, unless one is under way or was the last of all; the event that it sets at its end."""
        with self._lock:
            if self._done is not None and (self._last or not self._done.is_set()):
                return self._done
            done = self._done = threads.Event()
            self._last = dies
        try:
            threads.start(self._flushed, "otel-netmon-last-flush", done, dies)
        except RuntimeError:  # no thread to be had
            done.set()
        return done

    def _flushed(self, done: threads.Event, dies: bool) -> None:
        guarded(self._flush, dies)
        done.set()


def _default_effect() -> None:
    """End by the signal, from any thread: Python sets handlers in one alone, so the C library does it."""
    ctypes.CDLL(None).signal(int(_SIGNAL), None)
    os.kill(os.getpid(), _SIGNAL)
