"""Bus bandwidth by size: of the rank that came last, and as the ranks saw it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from markupsafe import Markup, escape

from otel_netmon.analysis.details import Bandwidth
from otel_netmon.report.svg import LEFT, WIDTH, figure, line, number, rect, text
from otel_netmon.report.words import counted, rate, size

_TOP: Final = 12
_HEIGHT: Final = 170
_SMALL: Final = 1000
"""Bytes below which a collective is a counter or a flag: what it tells is latency."""
_SHAPES: Final = (
    "m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z",
    "m-4-4h8v8h-8z",
    "m0-5l5 9h-10z",
    "m0-5.5l5.5 5.5-5.5 5.5-5.5-5.5z",
    "m0 5l5-9h-10z",
    "m-5-2h10v4h-10z",
)


def drawn(bandwidths: Sequence[Bandwidth]) -> list[Bandwidth]:
    """Those that the picture shows; nothing where they are of a single size."""
    some = [each for each in bandwidths if each.size >= _SMALL]
    return some if len({each.size for each in some}) > 1 else []


class _Axis:
    """A logarithmic one, of at least half a decade."""

    def __init__(self, values: Sequence[float]) -> None:
        logs = [math.log10(value) for value in values]
        spare = max(0.08, (0.5 - (max(logs) - min(logs))) / 2)
        self._low, self._high = min(logs) - spare, max(logs) + spare

    def part(self, value: float) -> float:
        """Where it is, from 0 to 1."""
        return (max(math.log10(value), self._low) - self._low) / (self._high - self._low) if value > 0 else 0.0

    def ticks(self) -> list[float]:
        """Powers of ten, and where those are few 2 and 5 times them."""
        factors = (1, 2, 5) if self._high - self._low < 3 else (1,)
        powers = range(math.floor(self._low), math.ceil(self._high))
        found = [factor * 10.0**power for power in powers for factor in factors]
        return [value for value in found if self._low <= math.log10(value) <= self._high]


def bandwidth_picture(bandwidths: Sequence[Bandwidth]) -> Markup:
    """Filled without waiting, hollow with it."""
    sizes = _Axis([each.size for each in bandwidths])
    rates = _Axis([value for each in bandwidths for value in (each.low, each.high, each.called) if value > 0])

    def x(value: float) -> float:
        return LEFT + WIDTH * sizes.part(value)

    def y(value: float) -> float:
        return _TOP + _HEIGHT * (1 - rates.part(value))

    body = [rect(LEFT, _TOP, WIDTH, _HEIGHT, "plot")]
    for value in rates.ticks():
        body.append(line(LEFT, y(value), LEFT + WIDTH, y(value), "grid"))
        body.append(text(LEFT - 6, y(value) + 4, rate(value), "e"))
    for value in sizes.ticks():
        body.append(line(x(value), _TOP, x(value), _TOP + _HEIGHT, "grid"))
        body.append(text(x(value), _TOP + _HEIGHT + 16, size(value), "m"))
    operations = sorted({each.operation for each in bandwidths})
    for operation in operations:
        mine = [each for each in bandwidths if each.operation == operation]
        shape = _SHAPES[operations.index(operation) % len(_SHAPES)]
        if len(mine) > 2:
            points = " ".join(f"{number(x(each.size))},{number(y(each.middle))}" for each in mine)
            body.append(f'<polyline points="{points}" class="thin"/>')
        for each in mine:
            heights = y(each.low), y(each.middle), y(each.high), y(each.called)
            body += _point(each, shape, x(each.size), heights)
    body.append(text(LEFT + WIDTH / 2, _TOP + _HEIGHT + 32, "bytes of one rank's buffer", "m"))
    at = _TOP + 8
    for place, operation in enumerate(operations[:8]):
        body += [_mark(LEFT + WIDTH + 12, at, _SHAPES[place % len(_SHAPES)], "p-transfer", 0.8)]
        body.append(text(LEFT + WIDTH + 21, at + 4, operation if len(operation) < 16 else operation[:14] + "…"))
        at += 17
    for words, kind in (("without waiting", "p-transfer"), ("as called", "hollow")):
        at += 17 if kind == "hollow" else 8
        body += [_mark(LEFT + WIDTH + 12, at, _SHAPES[0], kind, 0.8), text(LEFT + WIDTH + 21, at + 4, words)]
    return figure(_TOP + _HEIGHT + 38, "Bus bandwidth by size; the table has the numbers", body)


def _mark(x: float, y: float, shape: str, kind: str, scale: float = 1.0) -> str:
    about = f' transform="translate({number(x)} {number(y)}) scale({scale:g})"'
    return f'<path d="M0 0{shape}" class="{kind}"{about}/>'


def _point(each: Bandwidth, shape: str, x: float, heights: tuple[float, float, float, float]) -> list[str]:
    low, middle, high, called = heights
    title = (
        f"{each.operation} of {size(each.size)}, {counted(each.times, 'collective')}: {rate(each.middle)} without"
        f" waiting ({rate(each.low)} to {rate(each.high)}), {rate(each.called)} as called"
    )
    return [
        f"<g><title>{escape(title)}</title>",
        line(x, low, x, high, "range"),
        line(x, middle, x, called, "lost"),
        _mark(x, called, shape, "hollow"),
        _mark(x, middle, shape, "p-transfer"),
        "</g>",
    ]
