"""What the NICs moved while the run was watched, from their counters."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from otel_netmon import semconv
from otel_netmon.records import HostSample, Source

_DIRECTIONS: Final = (semconv.DIRECTION_RECEIVE, semconv.DIRECTION_TRANSMIT)


@dataclass(frozen=True)
class NicTotal:
    """Bytes of one NIC between the first sample and the last, ``seconds`` apart; a run is a little longer."""

    host: str | None
    interface: str
    received: int | None
    transmitted: int | None
    seconds: float


@dataclass
class _Series:
    first: int
    last: int
    counter: float
    moved: float = 0


class NicTraffic:
    """Sums up ``system.network.io``. Memory: one entry per process, NIC and direction."""

    def __init__(self) -> None:
        self._series: dict[tuple[str | None, str, str, str], _Series] = {}

    def add(self, point: HostSample, source: Source) -> None:
        """Take one point; each series in the order of time."""
        interface = point.attributes.get(semconv.INTERFACE)
        direction = point.attributes.get(semconv.DIRECTION)
        if not isinstance(interface, str) or direction not in _DIRECTIONS:
            return
        key = (source.host, interface, str(direction), source.instance)
        series = self._series.get(key)
        if series is None:
            # A counter starts at boot, not with the run: the first point is the mark to measure from, and so is
            # the first point of a delta series, which is counted from 0.
            self._series[key] = _Series(point.time, point.time, point.value)
        elif point.time > series.last:
            # What a counter that was reset had reached before is not known: that interval counts nothing.
            series.moved += point.value if point.is_delta else max(0, point.value - series.counter)
            series.counter = point.value
            series.last = point.time

    def totals(self) -> tuple[NicTotal, ...]:
        """By host and NIC. A NIC with a single sample is left out: its bytes during the run are not known.

        When several processes of a host report the same NIC, the one that watched it longest counts.
        """
        best: dict[tuple[str | None, str], dict[str, _Series]] = defaultdict(dict)
        by_length = sorted(self._series.items(), key=lambda item: item[1].first - item[1].last)
        for (host, interface, direction, _), series in by_length:
            if series.last > series.first:
                best[host, interface].setdefault(direction, series)
        return tuple(
            NicTotal(
                host,
                interface,
                _moved(directions.get(semconv.DIRECTION_RECEIVE)),
                _moved(directions.get(semconv.DIRECTION_TRANSMIT)),
                max(series.last - series.first for series in directions.values()) / 1e9,
            )
            for (host, interface), directions in sorted(
                best.items(), key=lambda item: (item[0][0] or "", item[0][1])
            )
        )


def _moved(series: _Series | None) -> int | None:
    return None if series is None else int(series.moved)
