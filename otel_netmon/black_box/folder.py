"""The folder with the boxes of one launcher's ranks: made, named to its children, emptied, removed.

In memory where there is such a place: a store into a mapped page of a disk may wait for that disk. Who lives is
told by locks that end with their holder, not by process ids, which mean nothing in another container.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Collection, Iterator, MutableMapping
from pathlib import Path
from typing import Final

from otel_netmon import config
from otel_netmon.black_box import layout
from otel_netmon.endings import LastCalls
from otel_netmon.locks import locked

PREFIX: Final = "otel-netmon-calls-"
SUFFIX: Final = ".box"
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - the name is drawn, and the folder private
_MOST_READ: Final = 4096
"""Boxes that are read at once; there is one for each rank of the host."""


class BoxFolder:
    """The folder that this process made, or the one that a process above made and named. Used by one thread.

    Raises OSError in ``__init__`` where none can be made.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._environ = environ
        named = environ.get(config.BLACK_BOX_DIR, "")
        self._is_ours = not named or not is_private(Path(named))
        self._lock = -1
        if not self._is_ours:
            self.path = Path(named)
            return
        base = _base()
        _remove_stale(base)
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=base))  # 0700
        self._lock = locked(self.path)
        environ[config.BLACK_BOX_DIR] = str(self.path)

    def pids(self) -> frozenset[int]:
        """The processes that have a box here."""
        found = (name.partition("-")[0] for name in _names(self.path))
        return frozenset(int(pid) for pid in found if pid.isascii() and pid.isdigit())

    def left_behind(self, ended: Collection[int] = ()) -> Iterator[LastCalls]:
        """What ranks left whose process has ended, each once; ``ended`` are processes known to have: a child that
        such a process forked may hold its lock a little longer."""
        yield from _left_behind(self.path, ended)

    def remove(self) -> None:
        """Remove it, if this process made it and no rank that lives has a box there."""
        if not self._is_ours:
            return
        if self._environ.get(config.BLACK_BOX_DIR) == str(self.path):
            del self._environ[config.BLACK_BOX_DIR]
        with contextlib.suppress(OSError):  # a rank outlives us
            self.path.rmdir()
        self.forget()

    def forget(self) -> None:
        """In a forked child: it is the parent's."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)


def belongs_to(folder: Path, pid: int) -> bool:
    """Whether the process made it."""
    return folder.name.startswith(f"{PREFIX}{pid}-")


def is_private(folder: Path) -> bool:
    """Whether it is a folder of this user's that nobody else may look into."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


def _base() -> Path:
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    for path in (*([Path(runtime)] if runtime.startswith("/") else []), _SHARED_MEMORY):
        if path.is_dir() and os.access(path, os.W_OK | os.X_OK):
            return path
    return Path(tempfile.gettempdir())


def _remove_stale(base: Path) -> None:
    """Remove folders of launchers that were killed, with what their ranks left: nobody waits for it any more."""
    for folder in base.glob(PREFIX + "*"):
        with contextlib.suppress(OSError):
            if not is_private(folder):
                continue
            lock = locked(folder)
            if lock < 0:
                continue
            try:
                for _ in _left_behind(folder, ()):
                    pass
                folder.rmdir()
            finally:
                os.close(lock)


def _names(folder: Path) -> list[str]:
    """Those of the boxes."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry, _ in zip(entries, range(_MOST_READ), strict=False)]
    except OSError:
        return []
    return [name for name in names if name.endswith(SUFFIX)]


def _left_behind(folder: Path, ended: Collection[int]) -> Iterator[LastCalls]:
    for name in _names(folder):
        with contextlib.suppress(OSError, ValueError):
            found = _taken(folder / name, int(name.partition("-")[0]) in ended)
            if found is not None:
                yield found


def _taken(path: Path, has_ended: bool) -> LastCalls | None:
    """Read a box and delete it; ``None`` where its process lives, or another reader was first."""
    fd = locked(path)
    if fd < 0:
        if not has_ended:
            return None
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        data = os.pread(fd, layout.SIZE + 1, 0)
        path.unlink()
    finally:
        os.close(fd)
    return layout.read(data)
