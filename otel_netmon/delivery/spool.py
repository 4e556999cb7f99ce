"""Requests on disk, in the order in which they came, until they are delivered."""

from __future__ import annotations

import errno
import functools
import os
import secrets
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from otel_netmon import semconv, threads
from otel_netmon.delivery.segment import MAX_REQUEST, OVERHEAD, Record, Segment
from otel_netmon.text import file_part

_SEGMENT: Final = 4 << 20
_SUFFIX: Final = ".spool"


class SpoolError(OSError):
    """The folder cannot be used; the message says why."""


def open_folder(path: Path) -> None:
    """Make the folder, if need be, and check that it is ours alone. Raises SpoolError."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.lstat()
    except OSError as error:
        raise SpoolError(error.errno, f"{path}: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode):
        raise SpoolError(errno.ENOTDIR, f"{path} is not a folder, or a link to one")
    if status.st_uid != os.geteuid():
        raise SpoolError(errno.EPERM, f"{path} belongs to user {status.st_uid}, not to {os.geteuid()}")
    if status.st_mode & 0o022:
        raise SpoolError(errno.EPERM, f"{path} can be written by others (mode {status.st_mode & 0o777:o})")


class Spool:
    """The segments of one writer and one signal; one that is delivered whole is removed.

    Every method takes a short lock and does its I/O under it. When ``max_bytes`` are reached the oldest segment
    goes, and ``lose`` is called with the reason and the count of its items, as with those that cannot be read.
    """

    def __init__(self, folder: Path, signal: str, max_bytes: int, lose: Callable[[str, int], None]) -> None:
        self._folder = folder
        self._max = max_bytes
        self._lose = lose
        self._damaged = functools.partial(lose, semconv.REASON_SPOOL_DAMAGED)
        self.sending: Record | None = None
        """The request that is being sent: its sender counts it, also when its segment goes meanwhile."""
        host = file_part(socket.gethostname())
        self._prefix = f"{signal}-{host}-{os.getpid()}-{secrets.token_hex(3)}"
        self._signal = signal
        self._count = 0
        self._lock = threads.RLock()
        """Reentrant: what ``lose`` logs may come back here, where the user exports the process's log."""
        self._segments: list[Segment] = []

    @property
    def size(self) -> int:
        """Bytes that the segments take."""
        with self._lock:
            return sum(one.size for one in self._segments)

    def append(self, data: bytes, items: int) -> Record | None:
        """Keep a request; ``None`` when there is no room for it. Raises SpoolError."""
        with self._lock:
            needed = len(data) + OVERHEAD
            if needed > min(self._max, MAX_REQUEST):
                return None
            if not self._count:
                open_folder(self._folder)
            while self._segments and self.size + needed > self._max:
                self._drop(self._segments.pop(0))
            record = self._try(data, items)
            if record is None and self._segments:  # the disk is full: what is oldest makes room
                self._drop(self._segments.pop(0))
                record = self._try(data, items)
            return record

    def _try(self, data: bytes, items: int) -> Record | None:
        try:
            return self._room(len(data) + OVERHEAD).append(data, items)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return None
            raise SpoolError(error.errno, f"{self._folder}: {error.strerror}") from error

    def first(self) -> Record | None:
        """The oldest request that is not delivered."""
        with self._lock:
            while self._segments:
                record = self._segments[0].first()
                if record is not None:
                    return record
                self._segments.pop(0).close(remove=True)  # all delivered: nothing is left behind
            return None

    def delivered(self, record: Record) -> None:
        """The answer to ``first``: it was taken, or will never be."""
        with self._lock:
            if record.segment in self._segments:
                record.segment.delivered(record)

    def holds(self, record: Record) -> bool:
        """Whether a request is still here, for another attempt."""
        with self._lock:
            return record.segment in self._segments

    def adopt(self, max_age: float) -> None:
        """Take over one segment that another writer of this signal left behind; old ones are removed."""
        with self._lock:
            for path in orphans(self._folder, self._signal):
                if self._is_ours(path):
                    continue
                if (segment := Segment.adopt(path, self._damaged)) is None:
                    continue
                if time.time() - segment.written > max_age:
                    self._drop(segment)
                    continue
                self._segments.insert(0, segment)
                return

    def close(self) -> None:
        """Leave what is not delivered to others."""
        with self._lock:
            for segment in self._segments:
                segment.close(remove=segment.first() is None)
            self._segments = []

    def disown(self) -> None:
        """In a forked child: the files are the parent's."""
        for segment in self._segments:
            segment.close(remove=False)  # the lock stays theirs
        self._segments = []

    def _room(self, needed: int) -> Segment:
        last = self._segments[-1] if self._segments else None
        # never behind what was taken over: its tail may be torn, and then nothing is found beyond it
        if last is None or not self._is_ours(last.path) or last.size + needed > _SEGMENT:
            self._count += 1
            last = Segment.create(self._folder / f"{self._prefix}-{self._count:06}{_SUFFIX}", self._damaged)
            self._segments.append(last)
        return last

    def _is_ours(self, path: Path) -> bool:
        return path.name.startswith(self._prefix)

    def _drop(self, segment: Segment) -> None:
        answered_for = self.sending.items if self.sending and self.sending.segment is segment else 0
        self._lose(semconv.REASON_SPOOL_FULL, segment.left - answered_for)
        segment.close(remove=True)


def orphans(folder: Path, signal: str) -> list[Path]:
    """The segments of a signal in a folder, oldest first; living writers' are among them."""
    try:
        return sorted(folder.glob(f"{signal}-*{_SUFFIX}"), key=lambda path: (path.lstat().st_mtime, path.name))
    except OSError:
        return []
