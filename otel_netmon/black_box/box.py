"""The rank's side: a file in the launcher's folder, while there is something in it that was not exported.

The file is reserved before it is mapped: a store into a page that the system cannot give would kill the process.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import mmap
import os
import secrets
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_netmon import config, forks
from otel_netmon.black_box import folder as folders
from otel_netmon.black_box import layout
from otel_netmon.job import roles

if TYPE_CHECKING:
    from otel_netmon.job.roles import RankIdentity
    from otel_netmon.records import Heartbeat

_logger = logging.getLogger(__name__)

_closed: Final = struct.Struct("<I")


def open_own(operations: Sequence[str]) -> Box | None:
    """A box for this process, where a launcher waits for it and it is not switched off; ``operations`` are their
    names by number. What goes wrong costs only the box."""
    place = os.environ.get(config.BLACK_BOX_DIR, "")
    if config.current().black_box == "off" or not place or sys.byteorder != "little":
        return None
    folder = Path(place)
    # The launcher's environment may have come here from another host; and nobody outlives a launcher that trains.
    if not folders.is_private(folder) or folders.belongs_to(folder, os.getpid()):
        return None
    try:
        return Box(folder, operations)
    except OSError as error:
        _logger.debug("otel-netmon: should this rank be killed, its last collectives are lost: %s", error)
        return None


class Box:
    """One process's. ``memory`` stays mapped as long as anybody has it: who still writes there does no harm."""

    def __init__(self, folder: Path, operations: Sequence[str]) -> None:
        self._path = folder / f"{os.getpid()}-{secrets.token_hex(4)}{folders.SUFFIX}"
        hidden = self._path.with_suffix(".new")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(hidden, flags, 0o600)
        try:
            os.posix_fallocate(fd, 0, layout.SIZE)
            self.memory = mmap.mmap(fd, layout.SIZE)
            # A lock of its own: the mapping keeps a copy of the descriptor, which a forked child would hold.
            self._lock = os.open(hidden, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._epoch = time.time_ns() - time.monotonic_ns()
            for at, name in enumerate(operations[: layout.MOST_OPERATIONS]):
                layout.OPERATION.pack_into(
                    self.memory, layout.OPERATIONS_AT + at * layout.OPERATION.size, name.encode()
                )
            self._groups = 0
            self._is_open = True
            self.update()
            hidden.rename(self._path)
        except BaseException:
            with contextlib.suppress(OSError):
                hidden.unlink()
            raise
        finally:
            os.close(fd)
        forks.register(self)

    def file(self) -> int:
        """A new descriptor of the file."""
        return os.open(self._path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)

    def name_group(self, number: int, name: str) -> None:
        """Say what a group's number stands for. When there are too many, the later half makes room: the first ones
        are those of the whole job."""
        place, half = self._groups, layout.MOST_GROUPS // 2
        self._groups += 1
        if place >= layout.MOST_GROUPS:
            place = half + place % half
        name_bytes = name.encode()[: layout.GROUP.size - 4]
        layout.GROUP.pack_into(self.memory, layout.GROUPS_AT + place * layout.GROUP.size, number, name_bytes)

    def update(self, who: RankIdentity | None = None, beat: Heartbeat | None = None) -> None:
        """Say that this process lives, who it is, and at which step; some 2 µs."""
        if not self._is_open:
            return
        now = time.monotonic_ns()
        step, start, run_id = -1, 0, ""
        if beat is not None:
            run_id = beat.run_id or ""
            if beat.step is not None and beat.step_age is not None:
                step, start = beat.step, now - int(beat.step_age * 1e9)
        who = who or roles.launched_rank()
        known = (-1 if value is None else value for value in (who.rank, who.local_rank, who.world_size))
        about = (*known, self._epoch, now, step, start, run_id.encode()[:64])
        layout.HEADER.pack_into(self.memory, 0, layout.MAGIC, 0, os.getpid(), *about)

    def close(self) -> None:
        """All that is in it was exported: nobody is to read it."""
        if not self._is_open:
            return
        self._is_open = False
        _closed.pack_into(self.memory, layout.CLOSED_AT, 1)
        with contextlib.suppress(OSError):
            self._path.unlink()
        os.close(self._lock)

    def after_fork_in_child(self) -> None:
        """It is the parent's."""
        if self._is_open:
            self._is_open = False
            os.close(self._lock)
