"""This process's children, and how one ended, without taking its status from whoever waits for it. Linux only."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

_TASKS: Final = Path("/proc/self/task")
"""Process ids are of this process's namespace, so this is not the procfs that monitors may be told of."""
_MOST_ENVIRONMENT: Final = 1 << 20
_PIDFD_OPEN: Final = 434
"""The number of the system call, the same on every architecture that Python is built for."""
_P_PIDFD: Final = getattr(os, "P_PIDFD", 3)
_KEEPERS: Final = (
    "subprocess",
    *(f"multiprocessing.popen_{how}" for how in ("fork", "forkserver", "spawn_posix")),
)
"""Modules with a class ``Popen``, whose objects stand for a process each."""
_TOLD_AFTER: Final = (0.0, 0.01, 0.05)
"""Seconds between two looks at what the launcher keeps: it has taken the status, and is about to note it."""


class Status(NamedTuple):
    """How a process ended; both ``None``: that is not known."""

    code: int | None = None
    signal: int | None = None

    @classmethod
    def of(cls, number: int) -> Status:
        """From an exit code, or minus a signal, as Python's launchers keep it."""
        return cls(number, None) if number >= 0 else cls(None, -number)


def has_any() -> bool:
    """Whether this process has a child: one system call."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def pids() -> set[int]:
    """The children of all threads. Empty where the kernel does not list them (CONFIG_PROC_CHILDREN)."""
    found: set[int] = set()
    for task in _TASKS.iterdir():
        with contextlib.suppress(OSError):  # the thread has ended meanwhile
            found.update(map(int, (task / "children").read_text().split()))
    return found


def environment(pid: int) -> dict[str, str]:
    """What a process was started with; empty where that cannot be read. Not what a forked one has set since."""
    try:
        with Path(f"/proc/{pid}/environ").open("rb") as file:
            data = file.read(_MOST_ENVIRONMENT)
    except OSError:
        return {}
    pairs = (pair.decode("utf-8", "replace").partition("=") for pair in data.split(b"\0"))
    return {name: value for name, _, value in pairs}


def watch(pid: int) -> int:
    """A descriptor that becomes readable when ``pid`` ends. Raises OSError."""
    opened = getattr(os, "pidfd_open", None)  # a Python built on an old system has none
    if opened is not None:
        return int(opened(pid))
    libc = ctypes.CDLL(None, use_errno=True)
    fd = int(libc.syscall(_PIDFD_OPEN, pid, 0))
    if fd < 0:
        raise OSError(ctypes.get_errno(), "pidfd_open")
    return fd


def is_child(fd: int) -> bool:
    """Whether the process behind ``fd`` is a child that nobody has waited for yet."""
    try:
        os.waitid(_P_PIDFD, fd, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    except OSError:
        return False
    return True


def status(fd: int, pid: int) -> Status | None:
    """How the process behind ``fd`` ended; ``None`` as long as it has not. Its status stays for whoever waits for
    it; where that one was quicker, what it keeps says how."""
    try:
        how = os.waitid(_P_PIDFD, fd, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    except ChildProcessError:
        return _kept(pid)
    if how is None:
        return None
    return Status(how.si_status, None) if how.si_code == os.CLD_EXITED else Status(None, how.si_status)


def _kept(pid: int) -> Status:
    """By the objects of ``subprocess`` and ``multiprocessing`` that stand for a process: some 10 ms."""
    modules = [sys.modules[name] for name in _KEEPERS if name in sys.modules]
    classes: Any = tuple(module.Popen for module in modules)
    for wait in _TOLD_AFTER:
        time.sleep(wait)
        for one in gc.get_objects():
            if issubclass(type(one), classes) and getattr(one, "pid", None) == pid:
                number = getattr(one, "returncode", None)
                if isinstance(number, int):
                    return Status.of(number)
    return Status()
