"""One run's telemetry, summed up from its files: ranks, steps, collectives, waiting, NICs, losses."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from otel_netmon.analysis.collector import Collector
from otel_netmon.analysis.reader import FolderError, Problems, Span, read, telemetry_files
from otel_netmon.analysis.results import Summary


class Progress(Protocol):
    """Is told how many bytes of how many were read."""

    def __call__(self, done: int, total: int, /) -> None: ...


def summarise(
    folder: Path, *, exclude: Collection[str] = (), progress: Progress = lambda _done, _total: None
) -> Summary:
    """Read the files in ``folder`` and sum them up; raises ``FolderError`` when they hold no telemetry.

    Linear in the input: some 30 µs of CPU and 100 bytes per span.
    """
    problems = Problems()
    paths = telemetry_files(folder, problems, exclude)
    total = sum(path.lstat().st_size for path in paths)
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, max(total, done))

    collector = Collector()
    for path in paths:
        for record in read(path, problems, advance):
            if isinstance(record, Span):
                collector.span(record)
            else:
                collector.point(record)
    if not collector.records:
        raise FolderError(
            f"{folder} holds no telemetry: nothing in its {len(paths)} files could be read as OTLP JSON"
        )
    return collector.summary(folder, len(paths), total, problems)
