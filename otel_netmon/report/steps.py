"""Inside a step: what each rank did, and when."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from markupsafe import Markup

from otel_netmon.analysis.details import Drawn, InsideRank, InsideStep
from otel_netmon.report.bars import PARTS
from otel_netmon.report.svg import BASE, LEFT, ROW, WIDTH, figure, rect, row_label, text, time, time_axis
from otel_netmon.report.words import size

_MOST_LANES: Final = 3
_TOP: Final = 20


def step_picture(step: InsideStep, hosts: Mapping[int, str], strong: Sequence[int]) -> Markup:
    """One step; collectives in flight together have lanes of their own."""
    span = max((each.start + each.seconds for each in step.ranks), default=0.0) or 1.0
    took = time(max(each.seconds for each in step.ranks))
    meet = f"aligned at the end of {step.aligned}" if step.aligned is not None else "aligned at the step's start"
    body = [text(LEFT, 12, f"step {step.step}, {step.why}: {took}; {meet}")]
    for place, each in enumerate(step.ranks):
        y = _TOP + ROW * place
        body.append(row_label(y + BASE, each.rank, hosts.get(each.rank), strong=each.rank in strong))
        body += _row(each, y + 2, span)
        body.append(text(LEFT + WIDTH + 8, y + BASE, f"waited {time(each.waited)}", "b" * (each.rank in strong)))
    bottom = _TOP + ROW * len(step.ranks)
    body += time_axis(bottom, span)
    return figure(bottom + 24, f"What the ranks did in step {step.step}", body)


def _row(each: InsideRank, y: float, span: float) -> list[str]:
    lanes = _lanes(each.collectives)
    height = ROW - 5

    def bar(start: float, seconds: float, kind: str, title: str, lane: tuple[int, int] = (0, 1)) -> str:
        part = height / lane[1]
        x = LEFT + WIDTH * start / span
        return rect(x, y + part * lane[0], WIDTH * seconds / span, part, f"p-{kind}", title=title)

    found = [bar(each.start, each.seconds, "own", f"rank {each.rank}: {time(each.seconds)}")]
    for kind, start, seconds in each.pauses:
        at, length = each.start + start, min(seconds, max(0.0, each.seconds - start))
        found.append(bar(at, length, kind, f"rank {each.rank}: {PARTS[kind]}, {time(seconds)}"))
    count = max(lanes, default=0) + 1
    for one, lane in zip(each.collectives, lanes, strict=True):
        group = "" if one.group == "0" else f" of group {one.group}"
        what = f"rank {each.rank}: {one.operation} number {one.sequence}{group}"
        if one.waited > 0:
            title = f"{what}, waiting {time(one.waited)}"
            found.append(bar(one.start, one.waited, "waiting", title, (lane, count)))
        much = "" if math.isnan(one.size) else f" of {size(one.size)}"
        title = f"{what}, transfer{much}, {time(one.seconds - one.waited)}"
        found.append(bar(one.start + one.waited, one.seconds - one.waited, "transfer", title, (lane, count)))
    return found


def _lanes(collectives: Sequence[Drawn]) -> list[int]:
    """For each the first lane that is free; the last one takes what finds none."""
    free: list[float] = []
    found = []
    for one in collectives:
        lane = next((place for place, until in enumerate(free) if until <= one.start + 1e-6), len(free))
        if lane == len(free) and lane < _MOST_LANES:
            free.append(0.0)
        lane = min(lane, _MOST_LANES - 1)
        free[lane] = max(free[lane], one.start + one.seconds)
        found.append(lane)
    return found
