"""Requests on disk, in the order in which they came, until they are delivered.

A writer has files of its own, a segment each (``segment.py``); one that is delivered whole is removed, and one
whose writer is gone is taken over by the next.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from otel_netmon.delivery.segment import MAX_REQUEST, OVERHEAD, Record, Segment
from otel_netmon.text import file_part

_SEGMENT: Final = 4 << 20
_SUFFIX: Final = ".spool"


class SpoolError(OSError):
    """The folder cannot be used; the message says why."""


def open_folder(path: Path) -> Path:
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
    return path


class Spool:
    """The segments of one writer and one signal. Every method takes a short lock and does its I/O under it.

    ``max_bytes`` is for this writer; when it is reached the oldest segment goes, and ``dropped`` is told its
    items.
    The folder is made at the first ``append``.
    """

    def __init__(self, folder: Path, signal: str, max_bytes: int, *, dropped: Callable[[int], None]) -> None:
        self._folder = folder
        self._max = max_bytes
        self._dropped = dropped
        host = file_part(socket.gethostname())
        self._prefix = f"{signal}-{host}-{os.getpid()}-{secrets.token_hex(3)}"
        self._signal = signal
        self._count = 0
        self._lock = threading.Lock()
        self._segments: list[Segment] = []
        self._ready = False

    @property
    def size(self) -> int:
        """Bytes that the segments take."""
        with self._lock:
            return sum(one.size for one in self._segments)

    @property
    def folder(self) -> Path:
        """Where they are."""
        return self._folder

    def append(self, data: bytes, items: int) -> bool:
        """Keep a request; False when it could not be written, and is lost. Raises SpoolError."""
        with self._lock:
            if not self._ready:
                open_folder(self._folder)
                self._ready = True
            needed = len(data) + OVERHEAD
            if needed > min(self._max, MAX_REQUEST):
                return False
            while self._segments and sum(one.size for one in self._segments) + needed > self._max:
                self._drop_oldest()
            if self._try(data, items):
                return True
            if self._segments:  # the disk is full: what is oldest makes room
                self._drop_oldest()
            return self._try(data, items)

    def _try(self, data: bytes, items: int) -> bool:
        try:
            self._room(len(data) + OVERHEAD).append(data, items)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                return False
            raise SpoolError(error.errno, f"{self._folder}: {error.strerror}") from error
        return True

    def first(self) -> Record | None:
        """The oldest request that is not delivered."""
        with self._lock:
            while self._segments:
                record = self._segments[0].first()
                if record is not None:
                    return record
                if len(self._segments) == 1 and self._segments[0].size < _SEGMENT:
                    # all delivered: nothing is left behind, and the next one begins a new file
                    self._segments.pop(0).close(remove=True)
                    return None
                self._segments.pop(0).close(remove=True)
            return None

    def delivered(self, record: Record) -> None:
        """The answer to ``first``: it was taken, or will never be."""
        with self._lock:
            if self._segments:
                self._segments[0].delivered(record)

    def adopt(self, max_age: float) -> None:
        """Take over one segment that another writer of this signal left behind; old ones are removed."""
        with self._lock:
            for path in orphans(self._folder, self._signal):
                if path.name.startswith(self._prefix):
                    continue
                segment = Segment.adopt(path)
                if segment is None:
                    continue
                try:
                    old = time.time() - path.stat().st_mtime > max_age
                except OSError:
                    old = True
                if old:
                    self._dropped(sum(record.items for record in segment.waiting()))
                    segment.close(remove=True)
                else:
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
            segment.disown()
        self._segments = []

    def _room(self, needed: int) -> Segment:
        if not self._segments or self._segments[-1].size + needed > _SEGMENT:
            self._count += 1
            path = self._folder / f"{self._prefix}-{self._count:06}{_SUFFIX}"
            self._segments.append(Segment.create(path))
        return self._segments[-1]

    def _drop_oldest(self) -> None:
        segment = self._segments.pop(0)
        self._dropped(sum(record.items for record in segment.waiting()))
        segment.close(remove=True)


def orphans(folder: Path, signal: str) -> list[Path]:
    """The segments of a signal in a folder, oldest first; living writers' are among them."""
    try:
        found = [
            path for path in folder.iterdir() if path.name.startswith(f"{signal}-") and path.suffix == _SUFFIX
        ]
        return sorted(found, key=lambda path: (path.lstat().st_mtime, path.name))
    except OSError:
        return []
