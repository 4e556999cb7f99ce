"""Bars of shares, one for each rank: what the time went into, and what of it was overlapped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from markupsafe import Markup

from otel_netmon.analysis.details import Overlap, RankTime
from otel_netmon.report.svg import BASE, LEFT, ROW, WIDTH, figure, rect, row_label, text, time
from otel_netmon.report.words import share

PARTS: Final = {
    "own": "computing and all else",
    "data": "data loading",
    "gc": "garbage collection",
    "transfer": "in collectives: transfer",
    "waiting": "in collectives: waiting for late ranks",
    "unsplit": "in collectives: not told apart",
    "unknown": "not known whether in collectives",
}
"""By the field of ``RankTime``, which is its class as well."""
BRIEF: Final = {
    "own": "computing",
    "data": "data",
    "gc": "GC",
    "transfer": "transfer",
    "waiting": "waiting",
    "unsplit": "in collectives",
    "unknown": "not known",
}
"""The same, for the head of a column."""
OVERLAPPED: Final = {
    "hidden": "overlapped: the rank worked on",
    "waited": "exposed: blocked in a call or in Work.wait",
    "rest": "not told apart: blocked within C++, or worked on",
}
"""By the field of ``Overlap``."""

Times = Sequence[RankTime] | Sequence[Overlap]


def used(times: Times, parts: Mapping[str, str], always: int) -> dict[str, str]:
    """The parts that there are; the first ones are in every legend."""
    return {
        part: words
        for place, (part, words) in enumerate(parts.items())
        if place < always or any(getattr(each, part) > 0 for each in times)
    }


def bars(
    times: Times, parts: Mapping[str, str], ranks: Sequence[int], hosts: Mapping[int, str], strong: Sequence[int]
) -> Markup:
    """All ranks together, and ``ranks`` one by one."""
    shown = [each for each in times if each.rank in set(ranks)]
    body = [text(LEFT - 6, BASE, "all ranks", "e b")]
    body += _bar(0, "all ranks", parts, {part: sum(getattr(each, part) for each in times) for part in parts})
    for place, each in enumerate(shown):
        y = ROW * (place + 1) + 6
        body.append(row_label(y + BASE, each.rank, hosts.get(each.rank), strong=each.rank in strong))
        body += _bar(y, f"rank {each.rank}", parts, {part: getattr(each, part) for part in parts})
    return figure(ROW * (len(shown) + 1) + 8, f"Bars of shares: {'; '.join(parts.values())}", body)


def _bar(y: float, name: str, parts: Mapping[str, str], values: Mapping[str, float]) -> list[str]:
    total = sum(values.values())
    found, x = [], float(LEFT)
    for part, value in values.items():
        width = WIDTH * value / total if total else 0.0
        if width < 0.2:
            continue
        title = f"{name}: {parts[part]}, {time(value)} ({share(value / total)})"
        found.append(rect(x, y + 2, width, 15, f"p-{part}", title=title))
        if width > 34:
            found.append(text(x + width / 2, y + BASE - 0.5, share(value / total), f"m in in-{part}"))
        x += width
    return [*found, text(LEFT + WIDTH + 8, y + BASE, time(total))]
