"""``otel-netmon report``: from files to one HTML page."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from otel_netmon.analysis.details import Details
from otel_netmon.analysis.results import Summary
from otel_netmon.analysis.summary import examine
from otel_netmon.cli.source import source
from otel_netmon.cli.summary import reading
from otel_netmon.store.problems import FolderError
from otel_netmon.streams import say

NAME: Final = "report.html"


def report(where: Path | str, run_id: str | None, output: Path | None) -> int:
    """Write the page of what is there and print where it is; 2 with one sentence on stderr when that cannot be."""
    folder = where if isinstance(where, Path) else Path()
    try:
        with source(where, run_id) as found, reading() as progress:
            summary, details = examine(found, progress=progress)
            name = found.absolute().name if isinstance(found, Path) else found.name
        path = write(summary, details, folder, output, name=name)
    except FolderError as error:
        say(str(error))
        return 2
    except OSError as error:
        where = folder / NAME if output is None else output
        say(f"{where} cannot be written: {error.strerror or error}; choose another file with -o FILE")
        return 2
    print(os.fsencode(path).decode(sys.stdout.encoding or "ascii", "replace"), flush=True)
    return 0


def write(
    summary: Summary, details: Details, folder: Path, output: Path | None = None, *, name: str | None = None
) -> Path:
    """Write the page, whole or not at all, and say where it is; raises ``OSError``. ``name``: of what it is, where
    that is not ``folder``."""
    from otel_netmon.report.page import page

    path = folder / NAME if output is None else output
    text = page(summary, details, name or folder.absolute().name)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # Beside the files it is nobody else's to read, as they are; elsewhere as the user's umask has it.
        part.touch(mode=0o600 if output is None else 0o666)
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
    return path
