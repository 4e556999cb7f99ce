"""Where a run's telemetry is: a folder, or a ClickHouse database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from otel_netmon.store.problems import FolderError

if TYPE_CHECKING:
    from otel_netmon.analysis.summary import Recorded


def place(text: str) -> Path | str:
    """A folder, or a URL as it is; for argparse."""
    return text if "://" in text else Path(text)


@contextmanager
def source(where: Path | str, run_id: str | None) -> Iterator[Path | Recorded]:
    """What can be summed up; raises ``FolderError``."""
    if isinstance(where, Path):
        if run_id is not None:
            raise FolderError("--run chooses a run of a database; a folder is taken as a whole")
        yield where
        return
    from otel_netmon.analysis.questions import Only, opened
    from otel_netmon.analysis.summary import Recorded

    with opened(where) as asked:
        parts = urlsplit(where)
        name = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
        yield Recorded(name, asked.records(Only(run_id)))
