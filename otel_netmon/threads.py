"""Threads, locks and events of the operating system, also where gevent or eventlet put greenlets in their place:
a greenlet of ours that waits in a system call would stop the whole program."""

from __future__ import annotations

import _thread
import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias, TypeVar

_T = TypeVar("_T")


def _original(name: str) -> Any:
    """``_thread``'s own, whoever replaced it before we were imported."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    with contextlib.suppress(Exception):  # another version of theirs: what stands in _thread must do
        if gevent is not None:
            return gevent.get_original("_thread", name)
        if eventlet is not None and eventlet.is_monkey_patched("thread"):
            return getattr(eventlet.original("_thread"), name)
    return getattr(_thread, name)


_AT_A_TIME: Final = 300_000
"""Nanoseconds of work before other threads get their turn: what a piece of work overruns it by has to fit within a
millisecond too, also with the caches full of something else."""
_TURN: Final = 0.0001
"""Seconds; less would be over before another thread has woken up."""

_start_new_thread: Final = _original("start_new_thread")
Lock: Final = _original("allocate_lock")
RLock: Final = _original("RLock")


class Event:
    """As ``threading.Event``: waits in the operating system."""

    def __init__(self) -> None:
        self._set = False
        self._gate = Lock()
        self._gate.acquire()
        self._change = RLock()

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._set

    def set(self) -> None:
        """Let all who wait go on."""
        with self._change:
            if not self._set:
                self._set = True
                self._gate.release()

    def clear(self) -> None:
        """Make the next ones wait."""
        with self._change:
            if self._set:
                self._gate.acquire()
                self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, or for ``timeout`` seconds; whether it is set."""
        if self._set:
            return True
        if self._gate.acquire(True, -1 if timeout is None else max(0.0, timeout)):
            self._gate.release()
            return True
        return self._set


class Pace:
    """Work in small pieces: a thread keeps the interpreter lock from all others for as long as it runs, or until
    the switch interval of 5 ms is over, unless it gives it up before. Used by one thread."""

    def __init__(self) -> None:
        self._since = 0

    def give_way(self) -> None:
        """Call it between two pieces: lets other threads run, if the last time is some 0.3 ms ago. The first call
        does, for who knows how long the thread has been running."""
        if time.monotonic_ns() - self._since > _AT_A_TIME:
            self.rest(_TURN)

    def rest(self, seconds: float) -> None:
        """Let other threads run for that long."""
        time.sleep(seconds)
        self._since = time.monotonic_ns()

    def pieces(self, items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
        """``items``, so many at a time; gives way between."""
        for first in range(0, len(items), size):
            yield items[first : first + size]
            self.give_way()


class _Bare:
    """A thread without ``threading``, which would make a greenlet."""

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...]) -> None:
        self._target = target
        self._args = args
        self._ended = Event()
        _start_new_thread(self._run, ())

    def _run(self) -> None:
        try:
            self._target(*self._args)
        finally:
            self._ended.set()

    def is_alive(self) -> bool:
        return not self._ended.is_set()

    def join(self, timeout: float | None = None) -> None:
        self._ended.wait(timeout)


Running: TypeAlias = threading.Thread | _Bare
"""A thread that was started."""


def start(target: Callable[..., None], name: str, *args: Any) -> Running:
    """Start a daemon thread. Raises RuntimeError when the system has none left, or the interpreter is ending."""
    if _thread.start_new_thread is _start_new_thread:
        thread = threading.Thread(target=target, name=name, args=args, daemon=True)
        thread.start()
        return thread
    return _Bare(target, args)
