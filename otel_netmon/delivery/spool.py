"""Requests on disk, in the order in which they came, until they are delivered.

A writer has files of its own, a segment each, and holds a lock on them as long as it lives; a segment whose lock
is free is an orphan, which anybody may deliver. A record is a header with length and checksum, and the request.
What is delivered is noted in the segment's head; a segment that is delivered whole is removed. A torn tail, which
a killed writer leaves behind, is recognised and left out. Nothing is synced to the disk: data survives a process,
not the machine.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import secrets
import socket
import stat
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_logger = logging.getLogger(__name__)

_HEAD: Final = struct.Struct("<8sQ")  # what it is; up to where it is delivered
_MAGIC: Final = b"ONMSPL1\n"
_RECORD: Final = struct.Struct("<LLL")  # length, checksum of the rest, items in the request
_SEGMENT: Final = 4 << 20
MAX_REQUEST: Final = 64 << 20
"""Bytes of one request at most: OTLP exporters allow no more."""
_SUFFIX: Final = ".spool"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9.]+")


class SpoolError(OSError):
    """The folder cannot be used; the message says why."""


@dataclass(frozen=True)
class Record:
    """A request, and where its record ends in its segment."""

    data: bytes
    items: int
    end: int


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


class Segment:
    """One file, open and locked. Used by one thread at a time."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd
        self.size = os.fstat(fd).st_size
        self._read = self._delivered()

    @classmethod
    def create(cls, path: Path) -> Segment:
        """A new one, which must not exist. Raises OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(path, flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write(fd, _HEAD.pack(_MAGIC, _HEAD.size), 0)
            return cls(path, fd)
        except OSError:
            os.close(fd)
            with contextlib.suppress(OSError):
                path.unlink()
            raise

    @classmethod
    def adopt(cls, path: Path) -> Segment | None:
        """One that a writer left behind; ``None`` while it lives, or where the file is not one of ours."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(fd)
            if (
                stat.S_ISREG(status.st_mode)
                and status.st_uid == os.geteuid()
                and status.st_nlink == 1  # not removed by another who delivered it
                and os.pread(fd, len(_MAGIC), 0) == _MAGIC
            ):
                return cls(path, fd)
        except OSError:
            pass
        os.close(fd)
        return None

    def append(self, data: bytes, items: int) -> None:
        """Add a request. Raises OSError and leaves the segment as it was."""
        rest = struct.pack("<L", items) + data
        record = _RECORD.pack(len(data), zlib.crc32(rest), items) + data
        try:
            _write(self._fd, record, self.size)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self.size)
            raise
        self.size += len(record)

    def first(self) -> Record | None:
        """The first request that is not delivered; ``None`` at the end, or at what is torn or damaged."""
        head = os.pread(self._fd, _RECORD.size, self._read)
        if len(head) < _RECORD.size:
            return None
        length, checksum, items = _RECORD.unpack(head)
        if length > MAX_REQUEST or self._read + _RECORD.size + length > self.size:
            return None
        data = os.pread(self._fd, length, self._read + _RECORD.size)
        if len(data) < length or zlib.crc32(struct.pack("<L", items) + data) != checksum:
            return None
        return Record(data, items, self._read + _RECORD.size + length)

    def delivered(self, record: Record) -> None:
        """Do not give this one again, not even to another process."""
        self._read = record.end
        with contextlib.suppress(OSError):  # then it may be delivered twice
            os.pwrite(self._fd, struct.pack("<Q", record.end), len(_MAGIC))

    def waiting(self) -> Iterator[Record]:
        """Those that are not delivered, without changing that."""
        place = self._read
        try:
            while (record := self.first()) is not None:
                yield record
                self._read = record.end
        finally:
            self._read = place

    def close(self, *, remove: bool) -> None:
        """Give up the lock; with ``remove`` the file is gone."""
        if remove:
            with contextlib.suppress(OSError):
                self.path.unlink()
        with contextlib.suppress(OSError):
            os.close(self._fd)

    def disown(self) -> None:
        """Close the copy that a fork made: the lock is the parent's."""
        with contextlib.suppress(OSError):
            os.close(self._fd)

    def _delivered(self) -> int:
        head = os.pread(self._fd, _HEAD.size, 0)
        if len(head) < _HEAD.size:
            return _HEAD.size
        _, place = _HEAD.unpack(head)
        # an offset that no writer of ours wrote: from the start, rather twice than never
        return place if _HEAD.size <= place <= self.size else _HEAD.size


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
        host = _UNSAFE.sub("-", socket.gethostname())[:64]
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
            needed = len(data) + _RECORD.size
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
            self._room(len(data) + _RECORD.size).append(data, items)
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


def _write(fd: int, data: bytes, place: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, place)
        rest, place = rest[written:], place + written
