"""What of a folder's files was delivered where: one small file, to which a line is added for each request."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Final

NAME: Final = ".otel-netmon-sent"
"""In the folder: what reads telemetry there passes it over."""


class Busy(OSError):
    """Another process is delivering the same folder."""


class Sent:
    """The places up to which files were delivered to one destination. Open and locked from the start to ``close``.

    A line that was cut off, as the process or the machine stopped, counts as not written: then the last request is
    delivered twice, and nothing is left out.
    """

    def __init__(self, path: Path, destination: str, *, forget: bool = False) -> None:
        """``forget``: begin anew. Raises OSError."""
        self._to = destination
        self._places: dict[str, int] = {}
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._fd = os.open(path, flags, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise Busy("another `otel-netmon export otlp` is delivering it") from None
        self._read()
        if forget:
            for name in [*self._places]:
                self.note(name, 0)

    def _read(self) -> None:
        with os.fdopen(os.dup(self._fd), "rb") as file:
            file.seek(0)
            data = file.read()
        for line in data.split(b"\n"):
            try:
                said = json.loads(line)
                if said["to"] == self._to:
                    self._places[str(said["file"])] = int(said["offset"])
            except (ValueError, LookupError, TypeError):  # noqa: PERF203  # a few lines
                continue
        if data and not data.endswith(b"\n"):
            os.write(self._fd, b"\n")

    def place(self, name: str, size: int) -> int:
        """Up to where a file was delivered that is ``size`` bytes long now; from the start, if it is another."""
        place = self._places.get(name, 0)
        return place if 0 <= place <= size else 0

    def note(self, name: str, place: int) -> None:
        """It is delivered up to here. Raises OSError."""
        self._places[name] = place
        line = json.dumps({"to": self._to, "file": name, "offset": place}, separators=(",", ":"))
        os.write(self._fd, line.encode() + b"\n")

    def close(self) -> None:
        """Give up the lock."""
        os.close(self._fd)
