"""The clocks of several hosts, laid over one another to draw them on one axis. Nothing is concluded from it.

A collective that synchronises ends on all ranks at about the same time. In each step the difference between the
ends on a host and on the first host, the median over such collectives, is what the host's clock is ahead or
behind then; between the ends of two steps it is drawn out evenly, and nothing on a row changes its order. The
ends of a collective are not exactly one moment: the last bytes take a round trip, or some milliseconds of a
ring, to reach everybody. ``error`` is how far single collectives are off the median, typically; a constant part
of that (one host always last to get the end) cannot be told from the clock, and stays.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from otel_netmon.analysis.timeline import Key, StepOfAll

_SLOPE: Final = 0.1
"""A clock is moved by at most this share of the time that passes: an outlier does not turn the order around."""
_KNOTS: Final = 256
"""Of each host that are remembered: calls of steps before the last may still come."""
_SMOOTH: Final = 9
"""Steps over which the difference is smoothed, by their median."""
_RESIDUALS: Final = 1024


@dataclass
class _Host:
    times: list[int] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=_SMOOTH))
    residuals: deque[float] = field(default_factory=lambda: deque(maxlen=_RESIDUALS))


class Clocks:
    """Takes steps in their order; then times in them can be placed. The first host's clock is the axis."""

    def __init__(self) -> None:
        self._first: str | None = None
        self._hosts: dict[str, _Host] = defaultdict(_Host)

    def learn(self, step: StepOfAll) -> None:
        """What the collectives of a step say of the clocks."""
        if self._first is None:
            self._first = next((part.source.host or "" for part in step.parts.values()), None)
        differences = _differences(step, self._first or "")
        for host, until in _ends(step).items():
            known = self._hosts[host]
            if host != self._first and (found := differences.get(host)):
                usual = median(found)
                known.residuals.extend(abs(each - usual) for each in found)
                known.recent.append(usual)
            if known.recent:
                self._knot(known, until, int(median(known.recent)))

    def _knot(self, host: _Host, at: int, offset: int) -> None:
        if host.times:
            passed = at - host.times[-1]
            if passed <= 0:
                return
            most = int(_SLOPE * passed)
            last = host.offsets[-1]
            offset = max(last - most, min(last + most, offset))
        host.times.append(at)
        host.offsets.append(offset)
        if len(host.times) > 2 * _KNOTS:
            del host.times[:_KNOTS], host.offsets[:_KNOTS]

    def place(self, host: str, time: int) -> int:
        """A time of a host's clock on the axis, in nanoseconds."""
        known = self._hosts[host]
        times, offsets = known.times, known.offsets
        if not times:
            return time
        at = bisect_right(times, time)
        if at == 0:
            return time + offsets[0]
        if at == len(times):
            return time + offsets[-1]
        begin, end = times[at - 1], times[at]
        return time + offsets[at - 1] + (offsets[at] - offsets[at - 1]) * (time - begin) // (end - begin)

    def known(self) -> set[str]:
        """Hosts whose clock is, and the first one."""
        return {host for host, known in self._hosts.items() if known.times or host == self._first}

    def errors(self) -> Mapping[str, float]:
        """By host that was moved, seconds by which the ends of single collectives differ, typically."""
        return {
            host: median(known.residuals) / 1e9
            for host, known in self._hosts.items()
            if known.residuals and host != self._first
        }


def _ends(step: StepOfAll) -> dict[str, int]:
    """By host, when the last of it ended, by its own clock."""
    found: dict[str, int] = {}
    for part in step.parts.values():
        host = part.source.host or ""
        ends = [call.end for call in part.calls] + ([part.period.end] if part.period else [])
        found[host] = max(found.get(host, 0), *ends) if ends else found.get(host, 0)
    return found


def _differences(step: StepOfAll, first: str) -> dict[str, list[int]]:
    """By host, of each collective: nanoseconds from its end there to its end on the first host, each by its own
    clock, and of several ranks the median."""
    ends: dict[Key, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for part in step.parts.values():
        for call in part.calls:
            if call.on_host and call.sequence is not None:
                key = call.group, call.operation, call.sequence
                if key in step.met:
                    ends[key][part.source.host or ""].append(call.end)
    found: dict[str, list[int]] = defaultdict(list)
    for hosts in ends.values():
        if first in hosts:
            here = int(median(hosts[first]))
            for host, some in hosts.items():
                if host != first:
                    found[host].append(here - int(median(some)))
    return found
