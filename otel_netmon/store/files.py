"""Files of a folder, and their lines. Neither is trusted: a process may have been killed in the middle of a line,
and a folder can hold anything. What is not read is counted."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Final

from otel_netmon.store.problems import FolderError, Problems

MAX_LINE: Final = 64 << 20
"""Bytes of the longest line that is read; the SDK writes at most 512 spans, below 1 MB, on one."""

Progress = Callable[[int, int], None]
"""Is told how many bytes of how many were read."""

_SUFFIXES: Final = (".jsonl", ".json")


def telemetry_files(folder: Path, problems: Problems, exclude: Collection[str] = ()) -> list[Path]:
    """The ``.jsonl`` and ``.json`` files directly in ``folder``, by name, but for those in ``exclude``.

    Links are not followed. Raises :class:`FolderError` when there are none.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except FileNotFoundError:
        raise FolderError(f"{folder} does not exist; give the folder that `otel-netmon run` named") from None
    except NotADirectoryError:
        raise FolderError(f"{folder} is not a folder; give the folder that holds the files") from None
    except (OSError, ValueError) as error:
        raise FolderError(f"{folder} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    found = []
    for entry in entries:
        if entry.name.endswith(_SUFFIXES) and entry.name not in exclude:
            if entry.is_file(follow_symlinks=False):
                found.append(Path(entry.path))
            else:
                problems.files += 1
    if not found:
        raise FolderError(f"{folder} holds no telemetry: no file in it ends in .jsonl or .json")
    return found


def lines(path: Path, problems: Problems, progress: Callable[[int], None]) -> Iterator[bytes]:
    """The lines of a file that are not blank; ``progress`` is told the bytes of each."""
    try:
        # O_NONBLOCK: a pipe put in the place of the file must not hang us.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        problems.files += 1
        return
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            problems.files += 1
            return
        too_long = False
        while True:
            try:
                line = file.readline(MAX_LINE)
            except OSError:
                problems.corrupt += 1
                return
            if not line:
                return
            progress(len(line))
            whole = line.endswith(b"\n")
            if too_long or (not whole and len(line) == MAX_LINE):
                problems.corrupt += not too_long
                too_long = not whole
            elif line.strip():
                yield line
