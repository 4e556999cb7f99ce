"""Where this process's cgroups are in the file system, and which of them are in sight."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from otel_netmon.monitors import files, protocols

_MAX_DEPTH: Final = 64
_DELETED: Final = " (deleted)"


class Cgroup(NamedTuple):
    """A folder, and the inode that distinguishes it from a later one of the same name."""

    folder: str
    inode: int


class Cgroups:
    """The cgroups of the process whose entries are in ``own`` (``/proc/self``), below ``mount``.

    A path that leads out of the cgroup namespace, or out of what is mounted there, would be somebody else's here:
    then there is none. Used by one thread at a time. A look costs some 20 µs, and the mounts are read when a path
    changed.
    """

    def __init__(self, own: str, mount: str) -> None:
        self._own = own
        self._mount = mount
        self._said: bytes | None = None
        self._paths: dict[str, str] = {}
        self._roots: dict[str, str] = {}

    def look(self) -> tuple[list[Cgroup], Cgroup | None]:
        """The cgroup for CPU and those above it, from the inside out; and the one of version 2, if any."""
        said = files.try_read(f"{self._own}/cgroup") or b""
        if said != self._said:
            self._said, self._paths = said, protocols.parse_cgroups(said)
            self._roots = protocols.parse_cgroup_mounts(files.try_read(f"{self._own}/mountinfo") or b"")
        unified = self._above(self._unified(), self._paths[""]) if "" in self._paths else []
        own = unified[0] if unified else None
        if "cpu" not in self._paths:
            return unified, own
        # version 1: the controller has a mount of its own, alone or with cpuacct
        mounts = [f"{self._mount}/{name}" for name in ("cpu", "cpu,cpuacct", "cpuacct,cpu")]
        mount = next(filter(os.path.isdir, mounts), mounts[0])
        return self._above(mount, self._paths["cpu"], at_top=True), own

    def _unified(self) -> str:
        """Where version 2 is mounted: beside version 1 it is one level further down."""
        beside = f"{self._mount}/unified"
        is_whole = self._root(self._mount) is not None or os.path.exists(f"{self._mount}/cgroup.controllers")
        return beside if not is_whole and os.path.isdir(beside) else self._mount

    def _root(self, mount: str) -> str | None:
        return self._roots.get(os.path.realpath(mount))

    def _above(self, mount: str, path: str, *, at_top: bool = False) -> list[Cgroup]:
        """A cgroup and those above it. ``at_top``: where nothing tells what is mounted and the path is not there,
        it is the process's own cgroup, as containers of version 1 have it."""
        root = self._root(mount)
        parts, top = _parts(path), _parts(root or "/")
        if parts[: len(top)] != top:
            return []
        parts = parts[len(top) :]
        if ".." in parts:
            return []
        if not os.path.isdir("/".join((mount, *parts))):
            if not at_top or root is not None or path.endswith(_DELETED):
                return []
            parts = []
        levels = ["/".join((mount, *parts[:depth])) for depth in range(len(parts), -1, -1)][:_MAX_DEPTH]
        return [cgroup for folder in levels if (cgroup := _known(folder)) is not None]


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def _known(folder: str) -> Cgroup | None:
    try:
        return Cgroup(folder, Path(folder).stat().st_ino)
    except OSError:
        return None
