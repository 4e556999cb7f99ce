"""A terminal whose keys are read as they are pressed, and that is left as it was found."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

_SEQUENCES: Final = {
    b"\x1b[A": "up", b"\x1b[B": "down", b"\x1bOA": "up", b"\x1bOB": "down",
    b"\x1b[5~": "page up", b"\x1b[6~": "page down",
    b"\x1b[H": "home", b"\x1b[F": "end", b"\x1b[1~": "home", b"\x1b[4~": "end",
}  # fmt: skip
_ENDS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


class Keys:
    """What is typed; nothing where stdin is no terminal."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    def wait(self, seconds: float) -> list[str]:
        """Keys pressed within ``seconds``, as soon as there are some."""
        if self._fd is None:
            time.sleep(seconds)
            return []
        if not select.select([self._fd], [], [], seconds)[0]:
            return []
        data = os.read(self._fd, 1024)
        if not data:  # its other end is gone
            self._fd = None
        return list(_named(data))


def _named(data: bytes) -> Iterator[str]:
    while data:
        known = next((each for each in _SEQUENCES if data.startswith(each)), None)
        if known is not None:
            yield _SEQUENCES[known]
            data = data[len(known) :]
        elif data[0] == 0x1B:
            return  # of a key that means nothing here
        else:
            yield chr(data[0])
            data = data[1:]


@contextmanager
def keys() -> Iterator[Keys]:
    """Read keys without waiting for a line. However this ends, SIGTERM, SIGHUP and SIGQUIT included, the terminal
    is as before; those three end it as ``SystemExit`` with 128 and their number. Ctrl-Z does nothing meanwhile: a
    shell would get the terminal as it is."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    handlers = {number: signal.signal(number, end) for number in _ENDS}
    handlers[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    fd = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
    before = None if fd is None else termios.tcgetattr(fd)
    try:
        if fd is not None:
            tty.setcbreak(fd)
        yield Keys(fd)
    finally:
        if fd is not None and before is not None:
            with suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(fd, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
