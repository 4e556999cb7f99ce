"""Who came late, and when: ranks by steps, with the step's time and what else happened above on the same axis."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from markupsafe import Markup, escape

from otel_netmon.analysis.details import Details, Event
from otel_netmon.report.png import image
from otel_netmon.report.svg import LEFT, WIDTH, figure, line, number, rect, row_label, text, ticks, time
from otel_netmon.report.words import counted

_MOST_COLUMNS: Final = 500
_MOST_ROWS: Final = 420
_ENLARGED: Final = 8
_FEW: Final = 64
"""Ranks above which the worst are shown enlarged."""
_TOP: Final = 16
_LINE: Final = 66
_EVENTS: Final = 13
_MOST_TITLES: Final = 80
"""Events of a kind up to which each says what it was."""
_KINDS: Final = {"data": "data stall", "gc": "garbage collection", "verdict": "live verdict"}


@dataclass(frozen=True)
class _Scale:
    """Steps to columns, and seconds to strengths."""

    steps: Sequence[int]
    per: int
    """Steps in a column: the worst of them counts."""
    low: float
    high: float
    peak: float

    @property
    def columns(self) -> int:
        return math.ceil(len(self.steps) / self.per)

    def x(self, column: float) -> float:
        """Of a column's left edge."""
        return LEFT + WIDTH * column / self.columns

    def row(self, values: Sequence[Sequence[float]]) -> bytes:
        """One byte for each column: 0 for on time, and 1 to 255 from ``low`` to ``high`` in equal factors."""
        worst = array("f", map(max, *values)) if len(values) > 1 else values[0]
        if self.per > 1:
            worst = [max(worst[at : at + self.per]) for at in range(0, len(worst), self.per)]
        factor, low, high = 254 / math.log(self.high / self.low), self.low, self.high
        log = math.log
        return bytes(
            0 if value < low else 255 if value >= high else 1 + int(factor * log(value / low)) for value in worst
        )


def _scale(details: Details) -> _Scale:
    """From 3 % of a median step (what is less is noise) to the worst, or to the 99th percentile of what is shown
    where the worst is far beyond that."""
    per = math.ceil(len(details.steps) / _MOST_COLUMNS)
    peak = max((max(row) for row in details.lateness.values()), default=0.0) or 1e-6
    low = max(min(0.03 * median(details.step_times), peak / 10), 1e-6)
    seen = sorted(value for row in details.lateness.values() for value in row if value >= low)
    usual = seen[int(0.99 * (len(seen) - 1))] if seen else peak
    high = max(usual, 3 * low) if peak > 1.5 * usual and len(seen) > 100 else peak
    return _Scale(details.steps, per, low, max(high, 1.01 * low), peak)


@dataclass(frozen=True)
class _Labels:
    """What rows say beside their cells."""

    caused: Mapping[int, float]
    strong: Sequence[int]
    hosts: Mapping[int, str]


def heat_map(
    details: Details, caused: Mapping[int, float], strong: Sequence[int], hosts: Mapping[int, str]
) -> Markup:
    """The whole picture; ``caused`` is what each other rank waited for a rank."""
    scale, labels = _scale(details), _Labels(caused, strong, hosts)
    top = _TOP + _LINE + 32.0
    body = [*_step_line(details, scale), *_events(details.events, scale)]
    ranks = sorted(details.lateness)
    if caused:
        said = ("each other rank", top - 18), ("waited for it", top - 5)
        body += [text(LEFT + WIDTH + 8, y, word) for word, y in said]
    if len(ranks) > _FEW:
        by_sums = details.by_sums > 0
        cost = {rank: sum(details.lateness[rank]) if by_sums else caused.get(rank, 0.0) for rank in ranks}
        worst = sorted(sorted(ranks, key=lambda rank: -cost[rank])[:_ENLARGED])
        body += _Rows([[rank] for rank in worst], top, 15.0).drawn(details, scale, labels)
        top += 15 * len(worst) + 26
        words = (
            f"all {len(ranks)} ranks; above, the {len(worst)} that were {'late' if by_sums else 'waited for'} most"
        )
        body.append(text(LEFT, top - 7, words))
    per = math.ceil(len(ranks) / _MOST_ROWS)
    rows = [ranks[at : at + per] for at in range(0, len(ranks), per)]
    height = max(1.0, min(22.0, 420 / len(rows)))
    body += _Rows(rows, top, height).drawn(details, scale, labels)
    bottom = top + height * len(rows)
    body += [*_step_axis(scale, bottom, per), *_legend(scale, bottom + 44)]
    about = {
        "tabindex": "0",
        "id": "heat",
        "data-low": f"{scale.low:.9g}",
        "data-high": f"{scale.high:.9g}",
        "data-peak": f"{scale.peak:.9g}",
        "data-steps": ",".join(map(str, scale.steps[:: scale.per])),
        "data-per": str(scale.per),
        "data-last": str(scale.steps[-1]),
    }
    name = "Lateness of each rank in each step; the arrow keys read out cells"
    return figure(bottom + 74, name, body, "".join(f' {key}="{value}"' for key, value in about.items()))


def _step_line(details: Details, scale: _Scale) -> list[str]:
    """The time of each step on the rank that took longest."""
    times = details.step_times
    worst = [max(times[at : at + scale.per]) for at in range(0, len(times), scale.per)]
    high, usual = max(worst) or 1e-9, median(times)
    is_log = high > 8 * usual and min(worst) > 0
    base = 0.8 * min(worst) if is_log else 0.0

    def y(value: float) -> float:
        part = math.log(max(value, base) / base) / math.log(high / base) if is_log else value / high
        return _TOP + _LINE * (1 - part)

    factors = (1, 2, 5) if is_log and high < 60 * base else (1,)
    powers = [factor * 10.0**power for power in range(-6, 6) for factor in factors]
    marks = [value for value in powers if base <= value <= high] if is_log else ticks(high, 3)
    found = []
    for value in marks:
        found += [line(LEFT, y(value), LEFT + WIDTH, y(value), "grid")]
        found += [text(LEFT - 6, y(value) + 4, time(value) if value else "0", "e")]
    points = " ".join(f"{number(scale.x(column + 0.5))},{number(y(value))}" for column, value in enumerate(worst))
    title = "step time" + (", log scale" if is_log else "")
    return [*found, f'<polyline points="{points}" class="line"/>', text(LEFT + 2, _TOP - 4, title)]


def _events(events: Sequence[Event], scale: _Scale) -> list[str]:
    """A mark for each step and kind, and how often above."""
    if not events:
        return []
    first = {step: place // scale.per for place, step in enumerate(scale.steps)}
    y = _TOP + _LINE + _EVENTS
    found, right = [text(LEFT - 6, y + 4, "events", "e")], LEFT + WIDTH
    for kind in reversed(_KINDS):
        mine = [event for event in events if event.kind == kind]
        if not mine:
            continue
        words = f"{_KINDS[kind]} in {counted(len({event.step for event in mine}), 'step')}"
        right -= 7 * len(words) + 20
        found += [_mark(right, _TOP - 4, kind, ""), text(right + 8, _TOP - 4, words)]
        known = [event for event in mine if event.step in first]
        if len(known) > _MOST_TITLES:
            places = sorted({first[event.step] for event in known})
            shapes = "".join(f"M{number(scale.x(place + 0.5))} {number(y + 5)}{_shape(kind)}" for place in places)
            found.append(f'<path d="{shapes}" class="p-{kind}"/>')
            continue
        for event in known:
            what = event.what or f"{_KINDS[kind]}, {time(event.seconds)} on rank {event.rank}"
            found.append(_mark(scale.x(first[event.step] + 0.5), y + 5, kind, f"step {event.step}: {what}"))
    return found


def _shape(kind: str) -> str:
    return "l-3.5-8h7z" if kind != "verdict" else "l-4-4 4-4 4 4z"


def _mark(x: float, y: float, kind: str, title: str) -> str:
    about = f"<title>{escape(title)}</title>" if title else ""
    return f'<path d="M{number(x)} {number(y)}{_shape(kind)}" class="p-{kind}">{about}</path>'


@dataclass(frozen=True)
class _Rows:
    """Rows of cells, one or several ranks in each."""

    of: Sequence[Sequence[int]]
    top: float
    height: float

    def drawn(self, details: Details, scale: _Scale, labels: _Labels) -> list[str]:
        """The cells, the ranks' names on their left and what each cost on their right."""
        names = ",".join(f"{of[0]}-{of[-1]}" if len(of) > 1 else str(of[0]) for of in self.of)
        cells = [scale.row([details.lateness[rank] for rank in of]) for of in self.of]
        place = (LEFT, self.top, WIDTH, self.height * len(self.of))
        found = [rect(*place, "plot"), image(cells, place, f' class="cells" data-rows="{names}"')]
        return [*found, *self._names(labels), *self._costs(labels.caused)]

    def _middle(self, row: int) -> float:
        return self.top + (row + 0.5) * self.height + 4

    def _names(self, labels: _Labels) -> list[str]:
        """Of each row that has room, and of those that the verdict is about."""
        named = {
            row: next(rank for rank in of if rank in labels.strong)
            for row, of in enumerate(self.of)
            if set(of) & set(labels.strong)
        }
        strong = set(named)
        least = 20 / self.height * len(self.of[0])
        every = 1 if self.height >= 11 else next(2**power for power in range(24) if 2**power >= least)
        for row, of in enumerate(self.of):
            rank = next((rank for rank in of if rank % every == 0), None)
            if rank is not None and all(abs(row - other) * self.height >= 11 for other in strong):
                named[row] = rank
        return [
            row_label(self._middle(row), rank, labels.hosts.get(rank), strong=row in strong)
            for row, rank in sorted(named.items())
        ]

    def _costs(self, caused: Mapping[int, float]) -> list[str]:
        worst = max(caused.values(), default=0.0) or 1.0
        found, last = [], -100.0
        for row, of in enumerate(self.of):
            cost, middle = max(caused.get(rank, 0.0) for rank in of), self._middle(row)
            width, y = 52 * cost / worst, self.top + (row + 0.15) * self.height
            if width >= 0.4:
                found.append(rect(LEFT + WIDTH + 8, y, width, max(0.6, self.height * 0.7), "p-waiting"))
            if cost and middle - last >= 11 and (self.height >= 11 or cost >= worst / 4):
                found.append(text(LEFT + WIDTH + 12 + width, middle, time(cost)))
                last = middle
        return found


def _step_axis(scale: _Scale, bottom: float, ranks_per_row: int) -> list[str]:
    found = []
    for column in range(0, scale.columns, math.ceil(scale.columns / 10)):
        x = scale.x(column + 0.5)
        found.append(line(x, bottom, x, bottom + 4, "tick"))
        found.append(text(x, bottom + 16, scale.steps[column * scale.per], "m"))
    words = "step"
    if scale.per > 1:
        words += f"; a column is the worst of {scale.per} steps"
    if ranks_per_row > 1:
        words += f", a row the worst of {ranks_per_row} ranks"
    return [*found, text(LEFT + WIDTH / 2, bottom + 32, words, "m")]


def _legend(scale: _Scale, y: float) -> list[str]:
    ramp = image([bytes(range(1, 256, 2))], (LEFT, y, 120, 9))
    peak = f"at most {time(scale.peak)}; " if scale.peak > 1.01 * scale.high else ""
    most = f"{time(scale.high)}{' and more' if peak else ''} later than the median of the others, log scale"
    return [
        *(rect(LEFT, y, 120, 9, "plot"), ramp, text(LEFT - 6, y + 8, time(scale.low), "e")),
        *(text(LEFT + 128, y + 8, most), text(LEFT + 128, y + 24, f"{peak}empty: less than {time(scale.low)}")),
    ]
