"""A folder in which a run writes, followed: what is new is read, and it is told when the run is over.

Files are only read. Those that were there are read from near their end, so that it does not matter how long a
run has been going on.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from otel_netmon.analysis.recent import Process, Recent
from otel_netmon.store.appended import Appended
from otel_netmon.store.problems import FolderError, Problems
from otel_netmon.store.reader import records
from otel_netmon.store.thinned import thinned

_TAIL: Final = 8 << 20
"""Bytes of a file that was there from which on it is read."""
_AT_ONCE: Final = 1 << 20
_SUFFIXES: Final = (".jsonl", ".json")
SILENT: Final = 30.0
"""Seconds without anything new after which a run is over: three heartbeats."""
_QUIET: Final = 1.5
"""The same where all its processes are known to have ended: what they wrote last is there."""


class Following:
    """Of one folder. ``look`` again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recent = Recent()
        self.problems = Problems()
        self.bytes = 0
        """That were read."""
        self._files: dict[str, Appended] = {}
        self._here = socket.gethostname()
        self._heard: dict[str, float] = {}
        """By process, when something of it was read last, by the monotonic clock."""
        self._seen_alive: set[int] = set()
        self._last = time.monotonic()
        """When something new was written, about."""
        self._is_first = True

    def look(self) -> bool:
        """Read what is new; whether there was something. Raises ``FolderError`` where the folder is gone."""
        try:
            with os.scandir(self.folder) as entries:
                found = [
                    (entry.name, entry.stat(follow_symlinks=False))
                    for entry in entries
                    if entry.name.endswith(_SUFFIXES) and entry.is_file(follow_symlinks=False)
                ]
        except OSError as error:
            raise FolderError(f"{self.folder} cannot be read: {error.strerror}") from None
        before = self.bytes
        for name, status in found:
            file = self._files.get(name)
            if file is None:
                file = self._files[name] = self._open(name, status.st_size)
            if status.st_size > file.offset:
                self._read(file)
        if self._is_first and found:
            self._is_first = False
            self._last = time.monotonic() - max(0.0, time.time() - max(status.st_mtime for _, status in found))
        elif self.bytes > before:
            self._last = time.monotonic()
        return self.bytes > before

    def _open(self, name: str, size: int) -> Appended:
        file = Appended(self.folder / name)
        if self._is_first and size > _TAIL:
            file.offset = size - _TAIL
            file.next_line()
        return file

    def _read(self, file: Appended) -> None:
        now = time.monotonic()
        while lines := file.lines(self.problems, _AT_ONCE):
            for line, _ in lines:
                self.bytes += len(line)
                for record in records(thinned(line, self.problems), self.problems, file.path.name):
                    instance = self.recent.take(record)
                    if instance is not None:
                        self._heard[instance] = now

    def ages(self) -> Mapping[str, float]:
        """By process, seconds since it was heard of: since the newest time in its records, where it runs on this
        host, and else since they were read here, for clocks of hosts are not compared."""
        now, clock = time.monotonic(), time.time()
        return {
            name: max(0.0, clock - process.last_time / 1e9)
            if process.source.host == self._here and process.last_time
            else now - self._heard.get(name, now)
            for name, process in self.recent.processes.items()
        }

    def age(self) -> float | None:
        """Seconds, of the newest that is known of any rank."""
        ages = self.ages()
        of_ranks = (ages[name] for name, each in self.recent.processes.items() if each.rank is not None)
        return min(of_ranks, default=None)

    @property
    def quiet(self) -> float:
        """Seconds since something was written."""
        return time.monotonic() - self._last

    def is_over(self) -> bool:
        """Whether nothing more will come."""
        processes = [each for each in self.recent.processes.values() if each.source.pid is not None]
        if not self.recent.processes:
            return False
        alive = [each for each in processes if not self._has_ended(each)]
        ended = bool(processes) and not alive
        return self.quiet > (_QUIET if ended else SILENT)

    def _has_ended(self, process: Process) -> bool:
        host, pid = process.source.host, process.source.pid
        if pid is None or (host, pid) in self.recent.exits:
            return True
        if host != self._here:
            return False
        if Path(f"/proc/{pid}").exists():
            self._seen_alive.add(pid)
            return False
        return pid in self._seen_alive  # else it may live in a container, and never be seen from here
