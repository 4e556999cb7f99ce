"""Pieces of SVG as text. What comes from the data is escaped here; colours are classes of ``report.css``."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from markupsafe import Markup, escape

from otel_netmon.report.words import seconds

LEFT: Final = 118
"""Units for the labels of rows; all pictures share their margins, so that their axes stand below one another."""
WIDTH: Final = 650
RIGHT: Final = 132
ROW: Final = 20
BASE: Final = 14
"""From the top of a row to the base line of its text."""


def time(value: float | None) -> str:
    """A time in words, in the letters of a page; the ranks' times summed up are hours."""
    if value is not None and value >= 600:
        return f"{value / 3600:.3g} h" if value >= 7200 else f"{value / 60:.3g} min"
    return seconds(value).replace(" us", " µs")


def figure(height: float, name: str, parts: Iterable[str], about: str = "") -> Markup:
    """One picture. ``name`` is what is read out in its place; ``about``: further attributes."""
    body = "".join(parts)
    box = f"0 0 {LEFT + WIDTH + RIGHT} {height:.0f}"
    opening = f'<svg viewBox="{box}" role="img" aria-label="{escape(name)}" class="fig"{about}>'
    return Markup(f"{opening}{body}</svg>")  # noqa: S704 - what comes from the data has been escaped


def number(value: float) -> str:
    """A coordinate, to a tenth."""
    return f"{value:.1f}".removesuffix(".0")


def text(x: float, y: float, words: object, kind: str = "") -> str:
    """Words; ``e`` ends at ``x``, ``m`` has its middle there."""
    about = f' class="{kind}"' if kind else ""
    return f'<text x="{number(x)}" y="{number(y)}"{about}>{escape(words)}</text>'


def rect(x: float, y: float, width: float, height: float, kind: str, *, title: str = "") -> str:
    """A bar; ``title`` shows where the pointer rests."""
    shape = (
        f'<rect x="{number(x)}" y="{number(y)}" width="{number(max(width, 0.3))}" height="{number(height)}"'
        f' class="{kind}"'
    )
    return f"{shape}><title>{escape(title)}</title></rect>" if title else f"{shape}/>"


def boxes(places: Iterable[tuple[float, float, float, float]], kind: str) -> str:
    """Many bars as one path, without titles: x, y, width and height of each."""
    shapes = "".join(
        f"M{number(x)} {number(y)}h{number(max(width, 0.3))}v{number(height)}h-{number(max(width, 0.3))}z"
        for x, y, width, height in places
    )
    return f'<path d="{shapes}" class="{kind}"/>' if shapes else ""


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight one."""
    return f'<path d="M{number(x1)} {number(y1)}L{number(x2)} {number(y2)}" class="{kind}"/>'


def row_label(y: float, rank: int, host: str | None, *, strong: bool = False) -> str:
    """Which rank a row is of; ``host`` where there are several."""
    name = f"rank {rank}" + (f" {host if len(host) <= 10 else host[:9] + '…'}" if host else "")
    about = f"<title>{escape(f'rank {rank}' + (f' on {host}' if host else ''))}</title>"
    return f'<text x="{LEFT - 6}" y="{number(y)}" class="e{" b" if strong else ""}">{escape(name)}{about}</text>'


def ticks(highest: float, most: int) -> list[float]:
    """Round values from 0 on, ``most`` of them and 0."""
    if highest <= 0:
        return [0.0]
    step = 10.0 ** math.floor(math.log10(highest / most))
    step *= next(factor for factor in (1, 2, 5, 10) if highest / (step * factor) <= most)
    return [place * step for place in range(int(highest / step + 1e-9) + 1)]


def time_axis(y: float, span: float, most: int = 6) -> list[str]:
    """Ticks of a time from 0 to ``span`` over the whole width, below ``y``."""
    found = []
    for at in ticks(span, most):
        x = LEFT + WIDTH * at / span
        found += [line(x, y, x, y + 4, "tick"), text(x, y + 16, time(at) if at else "0", "m")]
    return found
