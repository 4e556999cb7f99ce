"""Digests in, findings that changed out.

Reading and comparing those of ten thousand ranks is a second of work beside the training thread of the rank that
does it: it is done in pieces, between which ``pause`` is called.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from otel_netmon.diagnosis.diagnose import diagnose
from otel_netmon.diagnosis.finding import Finding
from otel_netmon.live.digest import unpack
from otel_netmon.live.merger import Merger
from otel_netmon.live.settling import Change, Key, Settling


class Look(NamedTuple):
    """What one look gave."""

    changes: list[Change]
    told: Mapping[Key, Finding]
    """What stands, see ``Settling``."""
    last_step: int | None
    """The last of which anything is known."""
    heard: int
    """Ranks that are not silent."""
    cost: float
    """Seconds of CPU."""
    is_pending: bool = False
    """Whether another look may tell something new."""


class Judge:
    """Looks at the digests of all ranks, again and again; remembers those before. Used by one thread."""

    def __init__(self, pause: Callable[[], None] = lambda: None, told_before: Iterable[int] = ()) -> None:
        """``told_before``: see ``Settling``."""
        self._pause = pause
        self._merger = Merger(pause)
        self._settling = Settling(told_before)

    def look(self, now: float, digests: Iterable[tuple[int, bytes]]) -> Look:
        """``now``: seconds of the monotonic clock; by rank, what its key holds. Some 0.1 ms for each rank."""
        since = time.thread_time()
        for rank, data in digests:
            self._pause()
            digest = unpack(data, functools.partial(self._merger.lacks, rank))
            if digest is not None and digest.rank == rank:
                self._merger.take(digest, now)
        evidence = self._merger.evidence(now)
        changes = self._settling.look(diagnose(evidence, live=True))
        last, cost = max(evidence.steps, default=None), time.thread_time() - since
        settling = self._settling
        return Look(changes, dict(settling.told), last, len(evidence.heard), cost, settling.is_pending)
