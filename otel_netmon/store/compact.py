"""A folder of OTLP JSON lines to typed Parquet files, once: a fiftieth of the size, and each question in a second.

Lines are parsed once. Batches of files pass a staging table on disk, so memory does not grow with the folder.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from otel_netmon.store import json_tables, sql, views
from otel_netmon.store.engine import Engine, InProcess, text
from otel_netmon.store.files import Progress, telemetry_files
from otel_netmon.store.problems import FolderError, Problems
from otel_netmon.version import __version__

FOLDER: Final = "compact"
"""Below that with the files."""
MANIFEST: Final = "manifest.json"
VERSION: Final = 1
"""Of the Parquet files' columns."""
_SIGNALS: Final = ("traces", "logs", "metrics")
_BATCH: Final = 128 << 20
"""Bytes of files that are staged at a time; a single file may have more."""


_WRITING: Final = (
    "output_format_parquet_row_group_size = 65536, output_format_parquet_row_group_size_bytes = 67108864, "
    "max_bytes_before_external_sort = 268435456"
)
"""What bounds the memory that writing a file takes: a group of rows is held as a whole."""


class Compacted(NamedTuple):
    """What was written."""

    files: int
    """That were read, ..."""
    size: int
    """... and their bytes."""
    corrupt: int
    """Lines that were no JSON, or cut off."""
    rows: dict[str, int]
    """By table."""
    compact_size: int
    """Bytes of the Parquet files."""


def compact(folder: Path, *, progress: Progress = lambda _done, _total: None) -> Compacted:
    """Write ``folder``/compact anew; it is there whole or not at all.

    Raises ``FolderError`` and ``EngineError``. Some 15 s of CPU per GB of lines, 1 GiB of memory and, as long
    as it takes, a quarter of the folder's size on its disk.
    """
    problems = Problems()
    paths = telemetry_files(folder, problems)
    stats = {path: path.stat() for path in paths}
    total, done = sum(each.st_size for each in stats.values()), 0
    try:
        partial = Path(tempfile.mkdtemp(prefix=f".{FOLDER}-", dir=folder))
    except OSError as error:
        raise FolderError(f"{folder} cannot be written to: {error.strerror}") from None
    try:
        with plainly_named(partial) as place:
            engine = InProcess(f"{place}/staging")
            try:
                tables = _Tables(engine)
                for signal, batch in _batches({path: stats[path].st_size for path in paths}):
                    with linked(batch) as lines:
                        tables.take(lines, signal)
                    done += sum(stats[path].st_size for path in batch)
                    progress(done, total)
                corrupt = tables.corrupt
                rows = tables.write(place)
            finally:
                engine.close()
        shutil.rmtree(partial / "staging", ignore_errors=True)
        size = sum(each.stat().st_size for each in partial.glob("*.parquet"))
        found = Compacted(len(paths), total, corrupt + problems.files, rows, size)
        sources = {path.name: [stat.st_size, stat.st_mtime_ns] for path, stat in stats.items()}
        about = {"version": VERSION, "otel_netmon": __version__, **found._asdict(), "sources": sources}
        (partial / MANIFEST).write_text(json.dumps(about, indent=1))
        target = folder / FOLDER
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
        return found
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def is_fresh(folder: Path, paths: Collection[Path]) -> bool:
    """Whether ``folder``/compact is of these files as they are now."""
    try:
        about = json.loads((folder / FOLDER / MANIFEST).read_text())
        sources = {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in paths}
        return bool(about["version"] == VERSION and about["sources"] == sources)
    except (OSError, ValueError, KeyError, TypeError):
        return False


@contextmanager
def plainly_named(folder: Path) -> Iterator[str]:
    """Another path to it, without characters that the engine takes for a pattern."""
    with tempfile.TemporaryDirectory(prefix="otel-netmon-") as place:
        (Path(place) / "there").symlink_to(folder.resolve())
        yield f"{place}/there"


@contextmanager
def linked(paths: Collection[Path]) -> Iterator[str]:
    """A table function with the lines of these files, whatever their names."""
    with tempfile.TemporaryDirectory(prefix="otel-netmon-") as folder:
        for number, path in enumerate(paths):
            (Path(folder) / f"{number}.jsonl").symlink_to(path.resolve())
        yield f"file({text(f'{folder}/*.jsonl')}, 'LineAsString', 'line String')"


def _batches(sizes: Mapping[Path, int]) -> Iterator[tuple[str, list[Path]]]:
    """Files, and the signal that is all they have, if their names say so, as those of our own do; else ``""``."""
    by_signal: dict[str, list[Path]] = defaultdict(list)
    for path in sizes:
        signal = path.name.partition("-")[0]
        by_signal[signal if signal in _SIGNALS else ""].append(path)
    for signal, paths in by_signal.items():
        batch: list[Path] = []
        size = 0
        for path in paths:
            if batch and size + sizes[path] > _BATCH:
                yield signal, batch
                batch, size = [], 0
            batch.append(path)
            size += sizes[path]
        yield signal, batch


class _Tables:
    """Typed tables that grow batch by batch."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.corrupt = 0
        engine.run(json_tables.messages("(SELECT '' AS line)"))
        for name, query in json_tables.TABLES.items():
            engine.run(views.created(name, "", query))
        for name, cls in sql.TABLES.items():
            engine.run(views.created(name, views.order(name), sql.select(cls)))

    def take(self, lines: str, signal: str) -> None:
        """Take the column ``line`` of a table function; ``signal``: all that is there, ``""`` where not known."""
        engine = self._engine
        engine.run(json_tables.messages(lines))
        for name, query in json_tables.TABLES.items():
            if name.startswith(f"otel_{signal}"):
                engine.run(f"INSERT INTO {name} {query}")
        self.corrupt += int(engine.ask(f"SELECT countIf({json_tables.IS_BAD}) FROM {lines}").rows[0][0])
        for name, cls in sql.TABLES.items():
            for part in sql.selects(cls):
                engine.run(f"INSERT INTO {name} {part}")
        for name in json_tables.TABLES:
            engine.run(f"TRUNCATE TABLE {name}")

    def write(self, folder: str) -> dict[str, int]:
        """Write each table as a Parquet file; the rows of each."""
        rows: dict[str, int] = {}
        for name in sql.TABLES:
            target = f"file({text(f'{folder}/{name}.parquet')}, 'Parquet')"
            ordered = f"SELECT * FROM {name} ORDER BY {views.order(name)}"
            self._engine.run(f"INSERT INTO FUNCTION {target} {ordered} SETTINGS {_WRITING}")
            rows[name] = int(self._engine.ask(f"SELECT count() FROM {name}").rows[0][0])
        return rows
