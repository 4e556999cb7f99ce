"""The last steps of this process, whole, in two files of this host that take turns.

What does not leave the host, because nobody could take it, is there for who looks: OTLP JSON lines, which
``otel-netmon summary``, ``report`` and ``export perfetto`` read like those of a run.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_netmon import config, forks
from otel_netmon.delivery.local_files import file_name, process_label
from otel_netmon.delivery.otlp_json import Json
from otel_netmon.delivery.packed import WholeSpan
from otel_netmon.delivery.segment import write_whole
from otel_netmon.delivery.spool import open_folder
from otel_netmon.locks import locked

_logger = logging.getLogger(__name__)

SUFFIX: Final = ".steps.jsonl"
_KEPT: Final = 8
"""Times the bytes of one process, that are kept of those that have ended."""
_AT_ONCE: Final = 1 << 18
"""Bytes that wait for the next flush, at most."""


class StepFiles:
    """Files of at most ``most`` bytes together, made when there is something to write. Used by one thread; never
    raises: the first failure is logged."""

    def __init__(
        self, folder: Path | None, most: int, about: Callable[[], tuple[Resource, InstrumentationScope]]
    ) -> None:
        """``folder``: where it is ``None`` a private one in the system's for temporary files. ``about`` gives what
        the steps are of."""
        self._folder = folder or Path(tempfile.gettempdir()) / f"otel-netmon-steps-{os.geteuid()}"
        self._most = most // 2
        self._about = about
        self._format = Json()
        self._warned = False
        self.after_fork_in_child()
        forks.register(self)

    def after_fork_in_child(self) -> None:
        """The files are the parent's; the locks on them as well."""
        for fd in getattr(self, "_fds", ()):
            if fd >= 0:
                os.close(fd)
        self._fds = [-1, -1]
        self._paths = [Path(), Path()]
        self._turn = 0
        self._size = self._most
        """Of the file whose turn it is: full, so that the first write opens one."""
        self._chunks: list[bytes] = []
        self._waiting = 0

    def add(self, span: WholeSpan) -> None:
        """Keep a step; some 30 µs."""
        chunk = self._format.span(span)
        self._chunks.append(chunk)
        self._waiting += len(chunk)
        if self._waiting > _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what was added."""
        if not self._chunks:
            return
        chunks, self._chunks, self._waiting = self._chunks, [], 0
        line = self._format.request(*self._about(), chunks)
        if len(line) > self._most:
            return
        try:
            if self._size + len(line) > self._most:
                self._next()
            write_whole(self._fds[self._turn], line, self._size)
            self._size += len(line)
        except OSError as error:
            if not self._warned:
                self._warned = True
                _logger.warning(
                    "otel-netmon: the last steps are not kept on this host (%s); logged once. Set %s to a folder "
                    "of your own with room for them",
                    error,
                    config.PREFIX + "STEPS_DIR",
                )

    def _next(self) -> None:
        """The other file's turn: it begins anew. Whoever reads the old one goes on."""
        is_first = self._fds == [-1, -1]
        if is_first:
            open_folder(self._folder)
            self._make_room()
        turn = 1 - self._turn
        if self._fds[turn] >= 0:
            os.close(self._fds[turn])
            self._fds[turn] = -1
            with contextlib.suppress(FileNotFoundError):
                self._paths[turn].unlink()
        path = self._folder / f"{file_name('traces', process_label())}{SUFFIX}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fds[turn], self._paths[turn] = os.open(path, flags, 0o600), path
        fcntl.flock(self._fds[turn], fcntl.LOCK_EX)  # another may just be looking whether it is in use
        self._turn, self._size = turn, 0

    def _make_room(self) -> None:
        """Remove what processes left that have ended, the oldest first, as far as there is too much of it."""
        left = []
        for path in self._folder.glob(f"*{SUFFIX}"):
            with contextlib.suppress(OSError):
                if not _is_in_use(path):
                    status = path.stat()
                    left.append((status.st_mtime, status.st_size, path))
        left.sort(reverse=True)
        size = 0
        for _, one, path in left:
            size += one
            if size > _KEPT * 2 * self._most:
                with contextlib.suppress(OSError):
                    path.unlink()


def _is_in_use(path: Path) -> bool:
    fd = locked(path)
    if fd >= 0:
        os.close(fd)
    return fd < 0
