"""Where a run's telemetry is: a folder, or a ClickHouse database; and when an engine for it pays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from otel_netmon.store.files import telemetry_files
from otel_netmon.store.problems import FolderError, Problems
from otel_netmon.streams import say

if TYPE_CHECKING:
    from otel_netmon.analysis.summary import Recorded

_MANY: Final = 300_000_000
"""Bytes of lines that take long to read: 6 s of CPU."""


def place(text: str) -> Path | str:
    """A folder, or a URL as it is; for argparse."""
    return text if "://" in text else Path(text)


@contextmanager
def source(where: Path | str, run_id: str | None) -> Iterator[Path | Recorded]:
    """What can be summed up; raises ``FolderError``."""
    if isinstance(where, Path):
        if run_id is not None:
            raise FolderError("--run chooses a run of a database; a folder is taken as a whole")
        _say_what_is_quicker(where)
        yield where
        return
    from otel_netmon.analysis.questions import Only, opened
    from otel_netmon.analysis.summary import Recorded

    with opened(where) as asked:
        parts = urlsplit(where)
        name = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
        yield Recorded(name, asked.records(Only(run_id)))


def _say_what_is_quicker(folder: Path) -> None:
    """On stderr, where there is much to read. ``query`` is, once the lines are compacted; a summary would not be:
    the same records out of Parquet files take as long."""
    from otel_netmon.report import words
    from otel_netmon.store.compact import is_fresh

    try:
        paths = telemetry_files(folder, Problems())
    except FolderError:
        return  # whoever reads it says so
    total = sum(path.lstat().st_size for path in paths)
    if total < _MANY or is_fresh(folder, paths):
        return
    get = "" if find_spec("chdb") else "`pip install 'otel-netmon[analyze]'`, then "
    say(
        f"{words.size(total)} of telemetry: {get}`otel-netmon compact {folder}` once, "
        f"and `otel-netmon query {folder} …` answers in seconds"
    )
