"""Hosts by hosts: round-trip time, segments sent again, and rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Final

from markupsafe import Markup, escape

from otel_netmon.analysis.details import Link
from otel_netmon.report.png import image
from otel_netmon.report.svg import LEFT, RIGHT, WIDTH, figure, number, rect, text
from otel_netmon.report.words import ABSENT

_WITH_TEXT: Final = 6
"""Hosts up to which each cell has its number in it."""
_MOST: Final = 256
_LITTLE: Final = 0.05
"""Of the bytes of the busiest pair: the rate of fewer is none of the network's."""
_TOTAL: Final = LEFT + WIDTH + RIGHT
_GAP: Final = 14
_NAMES: Final = 76


_Strength = Callable[[float, float], float]
"""Of a value, by the median; from 0 to 1."""
_Units = tuple[tuple[float, str], ...]


def retransmits(link: Link) -> float | None:
    """The share of segments that were sent again."""
    return link.retransmits / link.segments if link.segments else None


def rate_of(link: Link, links: Sequence[Link]) -> float | None:
    """By/s while busy, of pairs that carried something to speak of."""
    return link.rate if link.sent >= _LITTLE * max(each.sent for each in links) else None


def matrices(links: Sequence[Link]) -> Markup:
    """Three of them, side by side; sending hosts are rows."""
    hosts = sorted({host for link in links for host in (link.sender, link.receiver)})[:_MOST]
    width = (_TOTAL - 2 * _GAP) / 3
    cell = min((width - _NAMES) / len(hosts), 64.0)
    height = min(cell, 26.0) if len(hosts) <= _WITH_TEXT else cell
    body: list[str] = []
    for place, (name, units, values, strength) in enumerate(_quantities(links)):
        left = place * (width + _GAP)
        usual = median(values.values()) if values else 0.0
        scale, unit = next(((scale, unit) for scale, unit in units if usual >= scale), units[-1])
        body.append(text(left + _NAMES, 12, f"{name}, {unit}", "b"))
        strengths = {pair: strength(value, usual) for pair, value in values.items()}
        words = {
            pair: f"{value / scale:.2g}" if unit == "%" else f"{value / scale:.3g}"
            for pair, value in values.items()
        }
        body += _matrix(hosts, left, (cell, height), words, strengths)
    return figure(_head(hosts) + height * len(hosts) + 4, "Hosts by hosts; the table has the numbers", body)


def _quantities(links: Sequence[Link]) -> Iterator[tuple[str, _Units, dict[tuple[str, str], float], _Strength]]:
    """Name, units, values of pairs, and how bad a value is."""
    rtts = {(each.sender, each.receiver): each.rtt for each in links}
    lost = {(each.sender, each.receiver): retransmits(each) for each in links}
    rates = {(each.sender, each.receiver): rate_of(each, links) for each in links}
    yield "round-trip time", ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")), _known(rtts), _beyond
    yield "segments sent again", ((0.01, "%"),), _known(lost), _lost
    yield "rate while sending", ((1e9, "GB/s"), (1e6, "MB/s"), (1e3, "kB/s")), _known(rates), _below


def _known(values: Mapping[tuple[str, str], float | None]) -> dict[tuple[str, str], float]:
    return {pair: value for pair, value in values.items() if value is not None}


def _head(hosts: Sequence[str]) -> float:
    return 36.0 if len(hosts) <= _WITH_TEXT else 20.0


def _matrix(
    hosts: Sequence[str],
    left: float,
    cell: tuple[float, float],
    words: Mapping[tuple[str, str], str],
    strengths: Mapping[tuple[str, str], float],
) -> list[str]:
    width, height = cell
    x, top = left + _NAMES, _head(hosts)
    found = [rect(x, top, width * len(hosts), height * len(hosts), "plot")]
    if len(hosts) > _WITH_TEXT:
        # Where something is known there is a little colour: white is a pair of which nothing is.
        known = {pair: max(1, int(255 * strength)) for pair, strength in strengths.items()}
        cells = [bytes(known.get((one, other), 0) for other in hosts) for one in hosts]
        found.append(image(cells, (x, top, width * len(hosts), height * len(hosts))))
        every = math.ceil(12 / height)
        places = range(0, len(hosts), every)
        return found + [text(x - 4, top + height * (at + 0.5) + 4, _brief(hosts[at]), "e") for at in places]
    for row, one in enumerate(hosts):
        y = top + row * height
        found.append(text(x - 4, y + height / 2 + 4, _brief(one), "e"))
        found.append(text(x + (row + 0.5) * width, top - 5, _brief(one, int(width / 6.5)), "m s"))
        for column, other in enumerate(hosts):
            title = f"{one} to {other}: {words.get((one, other), 'not known')}"
            strength = strengths.get((one, other), 0.0)
            shade = f' fill-opacity="{0.8 * strength:.2f}"'
            found.append(
                f'<g><title>{escape(title)}</title><rect x="{number(x + column * width)}" y="{number(y)}"'
                f' width="{number(width)}" height="{number(height)}" class="p-heat"{shade}/>'
                + text(x + (column + 0.5) * width, y + height / 2 + 4, words.get((one, other), ABSENT), "m s f")
                + "</g>"
            )
    return found


def _brief(host: str, most: int = 11) -> str:
    return host if len(host) <= most else host[: max(1, most - 1)] + "…"


def _times(factor: float) -> float:
    """From nothing at 1.3 times the usual to full at 8 times."""
    return min(1.0, max(0.0, math.log(factor / 1.3) / math.log(8 / 1.3))) if factor > 0 else 0.0


def _beyond(value: float, usual: float) -> float:
    return _times(value / usual) if usual > 0 else 0.0


def _below(value: float, usual: float) -> float:
    return _times(usual / value) if value > 0 else 1.0


def _lost(value: float, _usual: float) -> float:
    """From nothing at 0.1 % to full at 5 %."""
    return min(1.0, max(0.0, math.log(value / 1e-3) / math.log(50))) if value > 0 else 0.0
