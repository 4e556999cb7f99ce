"""Reading small files and folders of /proc and /sys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from otel_netmon.text import is_valid

_LIMIT: Final = 1 << 22  # bytes read of one file at most; net/dev has ~130 per NIC
_DEFAULT_PROC: Final = Path("/proc")


def read(path: str) -> bytes:
    """A whole small file. Files of /proc come in pieces, so it reads until the end; at most 4 MiB of it.

    Raises OSError.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces: list[bytes] = []
        size = 0
        while size < _LIMIT and (piece := os.read(handle, 1 << 16)):
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces)
    finally:
        os.close(handle)


def try_read(path: str) -> bytes | None:
    """The same; ``None`` where the file is absent, or a driver answers EINVAL: the value is unknown."""
    try:
        return read(path)
    except OSError:
        return None


def entries(folder: str) -> list[str]:
    """The names in a folder, sorted; none where it cannot be read. Only those that can be exported as text."""
    try:
        return sorted(filter(is_valid, os.listdir(folder)))
    except OSError:
        return []


def link_name(path: str) -> str:
    """The last part of what a link leads to; empty where it is none."""
    try:
        return os.readlink(path).rpartition("/")[2]
    except OSError:
        return ""


def net_folder(proc_root: Path) -> str:
    """Where the counts of the network namespace are: of this process's own, or, under a ``proc_root`` of the
    user's (the host's proc in a container), of process 1 there: ``<proc_root>/net`` would still mean ours."""
    return str(proc_root / "net" if proc_root == _DEFAULT_PROC else proc_root / "1" / "net")
