"""Threads, locks and events of the operating system, also where gevent or eventlet put greenlets in their place.

A greenlet of ours that waits in a system call would stop the whole program. So everything of ours that runs beside
the training is started here, and what it waits for is made here.
"""

from __future__ import annotations

import _thread
import sys
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol


def _original(name: str) -> Any:
    """``_thread``'s own, whoever replaced it before we were imported."""
    for module, get in (("gevent.monkey", "get_original"), ("eventlet.patcher", "original")):
        patcher = sys.modules.get(module)
        try:
            if module.startswith("gevent") and patcher is not None:
                return getattr(patcher, get)("_thread", name)
            if patcher is not None and patcher.is_monkey_patched("thread"):
                return getattr(getattr(patcher, get)("_thread"), name)
        except Exception:  # noqa: BLE001, S112  # another version of theirs: what stands in _thread must do
            continue
    return getattr(_thread, name)


_start_new_thread: Final = _original("start_new_thread")
Lock: Final = _original("allocate_lock")
RLock: Final = _original("RLock")


class Running(Protocol):
    """A thread that was started."""

    def is_alive(self) -> bool:
        """Whether it has not ended."""

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""


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


class _Bare:
    """A thread without ``threading``, which would make a greenlet."""

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...]) -> None:
        self._target = target
        self._args = args
        self._ended = Event()

    def start(self) -> None:
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


def start(target: Callable[..., None], name: str, *args: Any) -> Running:
    """Start a daemon thread. Raises RuntimeError when the system has none left, or the interpreter is ending."""
    if _thread.start_new_thread is _start_new_thread:
        thread = threading.Thread(target=target, name=name, args=args, daemon=True)
        thread.start()
        return thread
    bare = _Bare(target, args)
    bare.start()
    return bare
