"""What stands in the way of reading: a folder without telemetry, and what had to be left out."""

from __future__ import annotations

from dataclasses import dataclass


class FolderError(Exception):
    """There is nothing to read; the message is one sentence for the user."""


@dataclass
class Problems:
    """What could not be read, counted."""

    truncated: int = 0
    """Last lines cut off: their process was killed, or still writes."""
    corrupt: int = 0
    """Other lines that are not JSON objects, or longer than ``MAX_LINE``."""
    records: int = 0
    """Spans, log records, points and attributes with a wrong type in a line that was JSON."""
    files: int = 0
    """Files not opened: symbolic links, pipes, no permission."""
    unknown: int = 0
    """No problem: spans and log records that are not ours, or of a version with other names of attributes."""
