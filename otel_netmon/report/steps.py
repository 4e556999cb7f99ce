"""Inside a step: what each rank did, and when."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final

from markupsafe import Markup, escape

from otel_netmon.analysis.details import Drawn, InsideRank, InsideStep
from otel_netmon.report.bars import PARTS
from otel_netmon.report.svg import BASE, LEFT, ROW, WIDTH, boxes, figure, rect, row_label, text, time, time_axis
from otel_netmon.report.words import size

_MOST_LANES: Final = 3
_TOP: Final = 20
_HEIGHT: Final = ROW - 5
_MOST_TITLES: Final = 100
"""Collectives of a step up to which each says what it was: it takes more than its picture does."""


def step_picture(step: InsideStep, hosts: Mapping[int, str], strong: Sequence[int]) -> Markup:
    """One step; collectives in flight together have lanes of their own."""
    span = max((each.start + each.seconds for each in step.ranks), default=0.0) or 1.0
    took = time(max(each.seconds for each in step.ranks))
    words = f"step {step.step}, {step.why}: {took}"
    words += f"; aligned at the end of {step.aligned}" if step.aligned is not None else "; aligned at its start"
    if step.left_out:
        words += f"; without the {step.left_out} shortest collectives"
    body = [text(LEFT, 12, words)]
    has_titles = sum(len(each.collectives) for each in step.ranks) <= _MOST_TITLES
    for place, each in enumerate(step.ranks):
        y = _TOP + ROW * place
        body.append(row_label(y + BASE, each.rank, hosts.get(each.rank), strong=each.rank in strong))
        body += _own(each, y + 2, span)
        body += _collectives(each, y + 2, span, has_titles=has_titles)
        body.append(text(LEFT + WIDTH + 8, y + BASE, f"waited {time(each.waited)}", "b" * (each.rank in strong)))
    bottom = _TOP + ROW * len(step.ranks)
    body += time_axis(bottom, span)
    return figure(bottom + 24, f"What the ranks did in step {step.step}", body)


def _own(each: InsideRank, y: float, span: float) -> list[str]:
    """The whole step, and its pauses."""
    scale = WIDTH / span
    whole = f"rank {each.rank}: {time(each.seconds)}"
    found = [rect(LEFT + scale * each.start, y, scale * each.seconds, _HEIGHT, "p-own", title=whole)]
    for kind, start, seconds in each.pauses:
        length = min(seconds, max(0.0, each.seconds - start))
        title = f"rank {each.rank}: {PARTS[kind]}, {time(seconds)}"
        x = LEFT + scale * (each.start + start)
        found.append(rect(x, y, scale * length, _HEIGHT, f"p-{kind}", title=title))
    return found


def _collectives(each: InsideRank, y: float, span: float, *, has_titles: bool) -> list[str]:
    """Their waiting and their transfer; what each was where there are not too many."""
    lanes = _lanes(each.collectives)
    height, scale = _HEIGHT / (max(lanes, default=0) + 1), WIDTH / span
    waiting, transfer, found = [], [], []
    for one, lane in zip(each.collectives, lanes, strict=True):
        x, top = LEFT + scale * one.start, y + height * lane
        first = [(x, top, scale * one.waited, height)] if one.waited > 0 else []
        second = (x + scale * one.waited, top, scale * (one.seconds - one.waited), height)
        if has_titles:
            bars = boxes(first, "p-waiting") + boxes([second], "p-transfer")
            found.append(f"<g><title>{escape(_title(each.rank, one))}</title>{bars}</g>")
        else:
            waiting += first
            transfer.append(second)
    return [*found, boxes(waiting, "p-waiting"), boxes(transfer, "p-transfer")]


def _title(rank: int, one: Drawn) -> str:
    group = "" if one.group == "0" else f" of group {one.group}"
    much = "" if math.isnan(one.size) else f", {size(one.size)}"
    times = f"waiting {time(one.waited)}, transfer {time(one.seconds - one.waited)}"
    return f"rank {rank}: {one.operation} number {one.sequence}{group}{much}: {times}"


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
