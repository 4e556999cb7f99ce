"""``otel-netmon query``, ``compact`` and ``clickhouse-views``: SQL over a run's telemetry."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from otel_netmon.analysis.questions import QUESTIONS, Only, opened, question
from otel_netmon.cli.summary import reading
from otel_netmon.report import words
from otel_netmon.report.blocks import Block, plain
from otel_netmon.store.compact import FOLDER, compact
from otel_netmon.store.engine import Answer
from otel_netmon.store.layouts import LAYOUTS
from otel_netmon.store.problems import FolderError
from otel_netmon.store.views import statements
from otel_netmon.streams import say
from otel_netmon.text import printable

_UNITS: Final[tuple[tuple[str, str, Callable[[float | None], str]], ...]] = (
    ("_bytes_per_s", "", words.rate),
    ("bytes", "bytes", words.size),
    ("_rank_s", "_rank_s", lambda value: words.ABSENT if value is None else f"{value:.4g}"),
    ("_s", "", words.seconds),
    ("_share", "", lambda value: words.ABSENT if value is None else words.share(value)),
)
"""By how a column's name ends: what the end becomes for people, and how its values are said."""


def query(
    where: str, asked: str, statement: str | None, run_id: str | None, steps: range | None, *, as_json: bool
) -> int:
    """Print the answer to stdout; 2 with one sentence on stderr where there is none."""
    if asked not in (*QUESTIONS, "sql") or (asked == "sql") != (statement is not None):
        known = ", ".join(QUESTIONS)
        return _failed(f"give one of {known}, or sql and a SELECT in quotes; not {asked!r}")
    try:
        with opened(where) as source:
            answer = source.ask(question(asked) if statement is None else statement, Only(run_id, steps))
    except FolderError as error:
        return _failed(str(error))
    if as_json:
        print(json.dumps([*answer.dicts()], indent=1))
    else:
        said = plain([table(answer)])
        encoding = sys.stdout.encoding or "ascii"
        print(said.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()  # a broken pipe shows here, where it is handled
    return 0


def make_compact(folder: Path) -> int:
    """Write ``folder``/compact and say in one line what that came to; 2 where it cannot be done."""
    try:
        with reading() as progress:
            done = compact(folder, progress=progress)
    except FolderError as error:
        return _failed(str(error))
    rows = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in done.rows.items() if count)
    lost = f"; {words.counted(done.corrupt, 'line')} could not be read" if done.corrupt else ""
    files = f"{words.counted(done.files, 'file')} with {words.size(done.size)}"
    print(
        f"{folder / FOLDER}: {words.size(done.compact_size)} of Parquet from {files} ({rows or 'nothing'}){lost}"
    )
    return 0


def print_views(schema: str, *, materialized: bool) -> int:
    """Print the statements that make them; 2 for a schema that is not known."""
    layout = LAYOUTS.get(schema)
    if layout is None:
        return _failed(f"{schema!r} is no schema that is known here: give {', '.join(LAYOUTS)}")
    print("\n\n".join(f"{each};" for each in statements(layout, materialized=materialized)))
    return 0


def table(answer: Answer) -> Block:
    """For people: units beside the values, and names freed of theirs."""
    headers, shown = [], []
    left = set()
    for place, column in enumerate(answer.columns):
        values = [row[place] for row in answer.rows]
        ends = next((each for each in _UNITS if column.endswith(each[0])), None)
        numbers = all(value is None or isinstance(value, int | float) for value in values)
        if ends is not None and numbers:
            suffix, instead, say = ends
            headers.append(f"{column[: -len(suffix)]}{instead}".replace("_", " "))
            shown.append([say(value) for value in values])
        else:
            headers.append(column.replace("_", " "))
            shown.append([_said(value) for value in values])
            if not numbers:
                left.add(place)
    return Block("", tuple(headers), tuple(zip(*shown, strict=True)), left=frozenset(left))


def _said(value: Any) -> str:
    if value is None:
        return words.ABSENT
    if isinstance(value, float):
        return f"{value:.6g}"
    return printable(value) or "" if isinstance(value, str) else str(value)


def _failed(sentence: str) -> int:
    say(sentence)
    return 2
