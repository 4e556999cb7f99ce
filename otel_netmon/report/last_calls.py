"""What each rank was at when something hung or failed: a table."""

from __future__ import annotations

from typing import Final

from otel_netmon.analysis.details import Details, LastCall
from otel_netmon.report.blocks import Block
from otel_netmon.report.section import Section
from otel_netmon.report.svg import time
from otel_netmon.report.words import ABSENT, counted

_MOST: Final = 32
_HEADERS: Final = ("rank", "host", "group", "its last collective", "number", "and then", "in it for")


def at_the_end(details: Details) -> Section:
    """Those furthest behind come first: others wait for them."""
    last = details.last_calls
    rows = tuple(_row(each, details.hosts.get(each.rank)) for each in last[:_MOST])
    return Section(
        "end",
        "What each rank was at when it ended",
        "On a group on which something hung or failed: of each rank the first collective that did not end, or its"
        " last one where all did. A rank with a lower number than the others is the one that they waited for.",
        table=Block("", _HEADERS, rows, left=frozenset({0, 1, 2, 3, 5})),
        of=f"{len(rows)} of {counted(len(last), 'rank')}" if len(rows) < len(last) else "",
        is_open=True,
    )


def _row(each: LastCall, host: str | None) -> tuple[str, ...]:
    then = "ended" if each.is_over else "did not end" if each.error is None else f"failed: {each.error}"
    waited = ABSENT if each.seconds is None else time(each.seconds)
    return str(each.rank), host or ABSENT, each.group, each.operation, str(each.sequence), then, waited
