"""Bus bandwidth by operation and size, with and without the waiting for late ranks."""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from typing import Final

from otel_netmon.analysis.details import Bandwidth
from otel_netmon.analysis.operations import percentile
from otel_netmon.analysis.waiting import Part

_MOST: Final = 48
"""Different sizes; if there are more, those that differ by less than a tenth of a decade count as one."""


class Bandwidths:
    """Takes matched collectives. Memory: 16 bytes each."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, float], tuple[array[float], array[float]]] = defaultdict(
            lambda: (array("d"), array("d"))
        )

    def add(self, part: Part) -> None:
        """A collective: the transfer takes as long as on the rank that came last."""
        shortest = min(part.seconds)
        if part.moved > 0 and shortest > 0:  # not NaN
            without, called = self._seen[part.operation, part.size]
            without.append(part.moved / shortest)
            called.append(part.moved * len(part.seconds) / sum(part.seconds))

    def measure(self) -> tuple[Bandwidth, ...]:
        """By operation and size."""
        seen = self._seen
        if len(seen) > _MOST:
            seen = defaultdict(lambda: (array("d"), array("d")))
            for (operation, size), (without, called) in self._seen.items():
                near = round(10 ** (round(10 * math.log10(max(size, 1))) / 10))
                seen[operation, near][0].extend(without)
                seen[operation, near][1].extend(called)
        return tuple(_bandwidth(*key, *seen[key]) for key in sorted(seen))


def _bandwidth(operation: str, size: float, without: array[float], called: array[float]) -> Bandwidth:
    ordered = sorted(without)
    low, middle, high = (percentile(ordered, share) or 0.0 for share in (0.1, 0.5, 0.9))
    return Bandwidth(operation, size, len(ordered), low, middle, high, percentile(sorted(called), 0.5) or 0.0)
