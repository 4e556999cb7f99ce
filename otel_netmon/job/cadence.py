"""Which steps are every Nth, the same ones on all ranks.

A step's number is this rank's own count; after one rank has done a step more or less than the others, each would
choose steps of its own. So the first rank counts the collectives of all ranks in a step, and writes once at which
count step 0 would have begun: from then on every rank goes by the counts, which the ranks share. Where all is
regular they give the same steps as the numbers.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Final

from otel_netmon.job.steps import SETUP, Step
from otel_netmon.job.store import JobStore

STORE_KEY: Final = "otel_netmon/cadence"
_LOOKED_AT: Final = 8
"""Steps; the first ones of a DDP job differ, as its buckets are made anew after one."""
_MOST: Final = 1 << 48


def _counts(key: str) -> tuple[int, int] | None:
    """Of a step's key: how many collectives all ranks had begun together, and steps since then."""
    begun, dot, same = key.partition(".")
    return (int(begun), int(same)) if dot and begun.isdigit() and same.isdigit() else None


class Cadence:
    """Every ``every``-th step. ``store`` gives the job's store, as long as there is one; used by one thread."""

    def __init__(
        self, every: int, *, is_first: bool = False, store: Callable[[], JobStore | None] = lambda: None
    ) -> None:
        self._every = every
        self._is_first = is_first
        self._store = store
        self._seen: list[tuple[int, int]] = []
        self._ended = self._asked = 0
        """Steps that ended, and how many had when the store was asked last: not before the first rank can have
        written, and once a step."""
        self._agreed: tuple[int, int] | None = None
        """The count at which step 0 would have begun, and the collectives of a step."""

    def takes(self, number: int, key: str) -> bool:
        """Whether the step of that number and key is one of them."""
        if self._every == 1:
            return True
        count = _counts(key)
        if self._agreed is None or count is None:
            return number % self._every == 0
        start, length = self._agreed
        return count[1] == 0 and (count[0] - start) % (self._every * length) < length

    def closed(self, step: Step) -> None:
        """A step ended: the first rank learns from it."""
        self._ended += 1
        count = _counts(step.key)
        learns = self._every > 1 and self._is_first and self._agreed is None
        if learns and step.index != SETUP and count is not None and len(self._seen) < _LOOKED_AT:
            self._seen.append((step.index, count[0]))

    def poll(self) -> None:
        """Write, or ask once for, what is agreed. Never waits for another rank."""
        if self._every == 1 or self._agreed is not None:
            return
        if len(self._seen) < _LOOKED_AT if self._is_first else not _LOOKED_AT <= self._ended != self._asked:
            return
        self._asked = self._ended
        store = self._store()
        if store is None:
            return
        if self._is_first:
            self._write(store)
        else:
            self._agreed = _agreed(store.read(STORE_KEY))

    def _write(self, store: JobStore) -> None:
        lengths = [after - before for (_, before), (_, after) in zip(self._seen, self._seen[1:], strict=False)]
        length = statistics.median_low(lengths)
        number, begun = self._seen[-1]
        if length > 0:
            self._agreed = begun - number * length, length
            store.write(STORE_KEY, f"{self._agreed[0]} {length}")
        else:
            self._seen.clear()  # no collectives of all ranks, so far


def _agreed(text: str | None) -> tuple[int, int] | None:
    try:
        start, length = map(int, (text or "").split())
    except ValueError:
        return None
    return (start, length) if 0 < length < _MOST and abs(start) < _MOST else None
