"""A file read piece by piece from where one stopped: one that still grows, one of more than can be open at once.
Between two pieces it is closed."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path
from typing import Final

from otel_netmon.store.files import MAX_LINE
from otel_netmon.store.problems import Problems

PIECE: Final = 1 << 16
"""Bytes that are read at once, unless a line is longer."""


class Appended:
    """The whole lines of a file beyond ``offset``. Memory: one piece, while that is looked at."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self.path = path
        self.offset = offset
        """Where the next line begins."""
        self._cannot = False
        self._skipping = False

    def next_line(self) -> None:
        """Pass over the rest of a line in the middle of which ``offset`` is."""
        self._skipping = self.offset > 0

    def lines(self, problems: Problems, most: int = PIECE, *, is_last: bool = False) -> list[tuple[bytes, int]]:
        """The next lines that are not blank, ``most`` bytes or one line, and where each ends; none at the end.
        ``is_last``: also what stands at the end without a line break, which nobody will finish."""
        try:
            # O_NONBLOCK: a pipe put in the place of the file must not hang us.
            fd = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self._fails(problems)
            return []
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                self._fails(problems)
                return []
            return self._lines(fd, status.st_size, problems, most, is_last=is_last)
        except OSError:
            self._fails(problems)
            return []
        finally:
            os.close(fd)

    def _lines(
        self, fd: int, size: int, problems: Problems, most: int, *, is_last: bool
    ) -> list[tuple[bytes, int]]:
        while self.offset < size:
            data = os.pread(fd, most, self.offset)
            end = data.rfind(b"\n") + 1
            if not end and len(data) < most and not is_last:
                return []  # its writer is not done with it
            if not end and len(data) == most < MAX_LINE:
                most *= 8
                continue
            too_long = not end and len(data) == most
            data = data[:end] if end and not (is_last and len(data) < most) else data
            if too_long:
                problems.corrupt += not self._skipping
                self.offset, self._skipping = self.offset + len(data), True
                continue
            found = []
            for line in io.BytesIO(data):
                self.offset += len(line)
                if line.strip() and not self._skipping:
                    found.append((line, self.offset))
                self._skipping = False
            if found:
                return found
        return []

    def _fails(self, problems: Problems) -> None:
        problems.files += not self._cannot
        self._cannot = True
