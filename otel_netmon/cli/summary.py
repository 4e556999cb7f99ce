"""``otel-netmon summary``: from files to a table on a terminal, plain text in a pipe, or JSON."""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, TextIO

from otel_netmon.analysis.results import Summary
from otel_netmon.analysis.summary import summarise
from otel_netmon.cli.source import source
from otel_netmon.report.blocks import Block, blocks, plain
from otel_netmon.store.files import Progress
from otel_netmon.store.problems import FolderError

_SILENT_SECONDS: Final = 1.0


def show(where: Path | str, run_id: str | None, *, as_json: bool) -> int:
    """Print the summary of what is there to stdout; 2 with one sentence on stderr when there is nothing in it."""
    try:
        with source(where, run_id) as found, reading() as progress:
            summary = summarise(found, progress=progress)
    except FolderError as error:
        print(f"otel-netmon: {error}", file=sys.stderr)
        return 2
    if as_json:
        print(json.dumps(summary.to_dict(), indent=2, allow_nan=False))
    else:
        print_summary(summary, sys.stdout)
    sys.stdout.flush()  # a broken pipe shows here, where it is handled
    return 0


def print_summary(summary: Summary, stream: TextIO) -> None:
    """Print a summary as a table on a terminal, or else as plain text."""
    parts = blocks(summary)
    if stream.isatty():
        _print_rich(parts, stream)
    else:
        text = plain(parts)
        encoding = stream.encoding or "ascii"
        print(text.encode(encoding, "replace").decode(encoding), file=stream)


@contextmanager
def reading() -> Iterator[Progress]:
    """Progress of reading, on stderr, if that is a terminal and it takes more than a second.

    Without the garbage collector, which would look at all that was read again and again, a tenth of the time:
    nothing in it refers in circles.
    """
    since, bar = time.monotonic(), None
    is_wanted = sys.stderr is not None and sys.stderr.isatty()

    def show(done: int, total: int) -> None:
        nonlocal bar
        if bar is None and is_wanted and time.monotonic() - since >= _SILENT_SECONDS:
            from rich.console import Console
            from rich.progress import Progress as Bar

            bar = shown.enter_context(Bar(console=Console(stderr=True), transient=True))
            bar.add_task("reading telemetry")
        if bar is not None:
            bar.update(bar.task_ids[0], completed=done, total=total)

    collects = gc.isenabled()
    gc.disable()
    try:
        with ExitStack() as shown:
            yield show
    finally:
        if collects:
            gc.enable()


def _print_rich(parts: list[Block], stream: TextIO) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=stream, highlight=False)
    for part in parts:
        console.print()
        if part.title:
            console.print(Text(part.title, style="bold"))
        if part.rows:
            table = Table(
                box=None,  # and one space apart: the widest table fits into 80 columns
                padding=(0, 1, 0, 0),
                pad_edge=False,
                show_header=bool(part.headers),
                header_style="bold cyan",
            )
            for place in range(len(part.rows[0])):
                header = part.headers[place] if part.headers else ""
                table.add_column(Text(header), justify="left" if place in part.left else "right", overflow="fold")
            for row in part.rows:
                table.add_row(*(Text(cell) for cell in row))  # Text: names in the files are no markup
            console.print(table)
        for note in part.notes:
            console.print(Text(note))
