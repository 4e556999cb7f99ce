"""Which steps are every Nth, the same ones on all ranks.

A step's number is this rank's own count. As long as all ranks step alike that is enough; after one has done a step
more or less than the others, each would choose steps of its own. So the first rank looks how many collectives of
all ranks a step has, and says once at which count step 0 would have begun: from then on every rank goes by the
counts, which the ranks share, and which give the same steps as the numbers where all is regular.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from otel_netmon.job.steps import SETUP, Step

_logger = logging.getLogger(__name__)

STORE_KEY: Final = "otel_netmon/cadence"
_LOOKED_AT: Final = 8
"""Steps; the first ones of a DDP job differ, as its buckets are made anew after one."""
_MOST: Final = 1 << 48


class Count(NamedTuple):
    """When a step began: how many collectives all ranks had begun together, and steps since then."""

    begun: int
    same: int


def count_of(key: str) -> Count | None:
    """What a step's key says; ``None`` where it says nothing."""
    begun, dot, same = key.partition(".")
    return Count(int(begun), int(same)) if dot and begun.isdigit() and same.isdigit() else None


class Cadence:
    """Every ``every``-th step. ``store`` gives the job's store, as long as there is one; used by one thread."""

    def __init__(self, every: int, *, is_first: bool = False, store: Callable[[], Any] = lambda: None) -> None:
        self._every = every
        self._is_first = is_first
        self._store = store
        self._seen: list[tuple[int, int]] = []
        self._agreed: tuple[int, int] | None = None
        """The count at which step 0 would have begun, and the collectives of a step."""

    def takes(self, number: int, key: str) -> bool:
        """Whether the step of that number and key is one of them."""
        if self._every == 1:
            return True
        count = count_of(key)
        if self._agreed is None or count is None:
            return number % self._every == 0
        start, length = self._agreed
        return count.same == 0 and (count.begun - start) % (self._every * length) < length

    def closed(self, step: Step) -> None:
        """A step ended: the first rank learns from it."""
        count = count_of(step.key)
        learns = self._every > 1 and self._is_first and self._agreed is None
        if learns and step.index != SETUP and count is not None and len(self._seen) < _LOOKED_AT:
            self._seen.append((step.index, count.begun))

    def look(self) -> None:
        """Say, or ask once for, what is agreed. Never waits for another rank."""
        if self._every == 1 or self._agreed is not None:
            return
        try:
            store = self._store()
            if store is None:
                return
            if self._is_first:
                self._say(store)
            elif store.check([STORE_KEY]):
                start, length = map(int, store.get(STORE_KEY)[:64].split())
                if 0 < length < _MOST and abs(start) < _MOST:
                    self._agreed = start, length
        except Exception as error:  # noqa: BLE001 - a store that died: law 1
            _logger.debug("otel-netmon: the store did not answer: %r", error)

    def _say(self, store: Any) -> None:
        if len(self._seen) < _LOOKED_AT:
            return
        lengths = [after - before for (_, before), (_, after) in zip(self._seen, self._seen[1:], strict=False)]
        length = statistics.median_low(lengths)
        number, begun = self._seen[-1]
        if length > 0:
            self._agreed = begun - number * length, length
            store.set(STORE_KEY, f"{self._agreed[0]} {length}")
        else:
            self._seen.clear()  # no collectives of all ranks, so far
