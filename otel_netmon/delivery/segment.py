"""One file of requests: each with a length and a checksum, and at the head what of them is delivered.

A writer holds a lock on its files as long as it lives; a segment whose lock is free is an orphan, which anybody
may deliver. A torn tail, which a killed writer leaves behind, is recognised and left out. Nothing is synced to the
disk: data survives a process, not the machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_HEAD: Final = struct.Struct("<8sQ")  # what it is; up to where it is delivered
_MAGIC: Final = b"ONMSPL1\n"
_RECORD: Final = struct.Struct("<LLL")  # length, checksum of the rest, items in the request
MAX_REQUEST: Final = 64 << 20
"""Bytes of one request at most: OTLP exporters allow no more."""
OVERHEAD: Final = _RECORD.size
"""Bytes that a record takes beyond its request."""


@dataclass(frozen=True, eq=False)
class Record:
    """A request, where it is kept, and where its record ends there."""

    data: bytes
    items: int
    end: int
    segment: Segment


class Segment:
    """One file, open and locked. Used by one thread at a time.

    ``damaged`` is called with the items of records that were whole once and cannot be read.
    """

    def __init__(self, path: Path, fd: int, damaged: Callable[[int], None]) -> None:
        self.path = path
        self._fd = fd
        self._damaged = damaged
        status = os.fstat(fd)
        self.size, self.written = status.st_size, status.st_mtime
        self._read = self._delivered()
        self.left = sum(items for *_, items in self._heads())
        """Items that wait here: what is counted as lost when the file goes."""

    @classmethod
    def create(cls, path: Path, damaged: Callable[[int], None]) -> Segment:
        """A new one, which must not exist. Raises OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(path, flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            write_whole(fd, _HEAD.pack(_MAGIC, _HEAD.size), 0)
            return cls(path, fd, damaged)
        except OSError:
            os.close(fd)
            with contextlib.suppress(OSError):
                path.unlink()
            raise

    @classmethod
    def adopt(cls, path: Path, damaged: Callable[[int], None]) -> Segment | None:
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
                return cls(path, fd, damaged)
        except OSError:
            pass
        os.close(fd)
        return None

    def append(self, data: bytes, items: int) -> Record:
        """Add a request. Raises OSError and leaves the segment as it was."""
        rest = struct.pack("<L", items) + data
        record = _RECORD.pack(len(data), zlib.crc32(rest), items) + data
        write_whole(self._fd, record, self.size)
        self.size += len(record)
        self.left += items
        return Record(data, items, self.size, self)

    def first(self) -> Record | None:
        """The first request that is not delivered; ``None`` at the end. What is damaged is counted and passed."""
        for start, end, checksum, items in self._heads():
            with contextlib.suppress(OSError):
                data = os.pread(self._fd, end - start, start)
                if zlib.crc32(struct.pack("<L", items) + data) == checksum:
                    return Record(data, items, end, self)
            self._lose(items, end)
        if self.left:  # the lengths lead no further: what is behind cannot be found
            self._lose(self.left, self.size)
        return None

    def delivered(self, record: Record) -> None:
        """Do not give this one again, not even to another process."""
        if record.end > self._read:
            self._advance(record.end)
            self.left -= record.items

    def _heads(self) -> Iterator[tuple[int, int, int, int]]:
        """Of what is not delivered, up to a torn tail: where a request begins and ends, its checksum and items."""
        place = self._read
        while True:
            try:
                head = os.pread(self._fd, _RECORD.size, place)
            except OSError:
                return
            if len(head) < _RECORD.size or not any(head):  # a hole in the file reads as zeros
                return
            length, checksum, items = _RECORD.unpack(head)
            start, place = place + _RECORD.size, place + _RECORD.size + length
            if length > MAX_REQUEST or place > self.size:
                return
            yield start, place, checksum, items

    def _lose(self, items: int, end: int) -> None:
        items = min(items, self.left)  # a count that is damaged itself
        self.left -= items
        self._advance(end)
        if items:
            self._damaged(items)

    def _advance(self, place: int) -> None:
        self._read = place
        with contextlib.suppress(OSError):  # then it may be delivered twice
            os.pwrite(self._fd, struct.pack("<Q", place), len(_MAGIC))

    def close(self, *, remove: bool) -> None:
        """Give up the lock; with ``remove`` the file is gone."""
        if remove:
            with contextlib.suppress(OSError):
                self.path.unlink()
        with contextlib.suppress(OSError):
            os.close(self._fd)

    def _delivered(self) -> int:
        head = os.pread(self._fd, _HEAD.size, 0)
        if len(head) < _HEAD.size:
            return _HEAD.size
        _, place = _HEAD.unpack(head)
        # an offset that no writer of ours wrote: from the start, rather twice than never
        return place if _HEAD.size <= place <= self.size else _HEAD.size


def write_whole(fd: int, data: bytes, place: int) -> None:
    """Write ``data`` at the end of a file, which is ``place``. Raises OSError and leaves it as it was."""
    rest, at = memoryview(data), place
    try:
        while rest:
            written = os.pwrite(fd, rest, at)
            rest, at = rest[written:], at + written
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(fd, place)
        raise
