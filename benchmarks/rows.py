"""The rows of the table, by the names that the command line takes. Each is imported where it is measured."""

from __future__ import annotations

from collections.abc import Iterator
from pkgutil import resolve_name
from typing import Any, Final

from benchmarks.measuring import Line, Size

ROWS: Final = {
    "calls": "calls:on_the_calling_thread",
    "loaded": "calls:while_delivering",
    "background": "background:emitting",
    "job": "jobs:whole_jobs",
    "steps": "jobs:alternating_steps",
    "bytes": "jobs:on_the_wire",
    "lock": "lock:held",
    "collection": "collecting:series",
    "memory": "collecting:memory",
    "import": "startup:importing",
    "start": "startup:starting",
    "monitors": "host:monitors",
    "tcp": "host:connections",
    "live": "live:looking",
    "report": "report:pages",
    "scale": "scale:growing",
    "view": "view:looking_on",
    "collector": "collector:collected",
}


def measure(name: str, size: Size) -> Iterator[Line]:
    """The lines of one row, measured in this process."""
    row: Any = resolve_name(f"benchmarks.{ROWS[name]}")
    yield from row(size)
