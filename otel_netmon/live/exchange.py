"""Digests through the store of the job, by a client of this thread's own: a store's client has one lock, and the
training may hold it for as long as it waits for another rank.

Each rank has a key that it writes anew. One rank reads them: the lowest that is alive. Who that is stands under a
key of its own, with a count that grows while it lives.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any, Final, NamedTuple

from otel_netmon.job.slow_steps import MOST, Judged

_logger = logging.getLogger(__name__)

_TIMEOUT: Final = timedelta(seconds=5)
_MOST_TOLD: Final = 16
_LONGEST: Final = 80 + 11 * (_MOST_TOLD + MOST)
_AT_ONCE: Final = 512
"""Keys that are read in one call."""


class Leader(NamedTuple):
    """The rank that diagnoses."""

    rank: int
    beat: int
    """Grows while it lives."""
    stride: int
    """Of the steps that all are to tell, see ``Outbox``."""
    told: tuple[int, ...] = ()
    """What stands, see ``settling.mark_of``: who leads next need not tell it again."""
    judged: Judged = Judged()
    """Which of its steps were slow."""


class StoreGone(Exception):
    """The store does not answer."""


class Exchange:
    """One job's digests. Methods raise ``StoreGone`` and nothing else; each is a round trip or two."""

    def __init__(self, store: Any, run_id: str) -> None:
        """``store``: torch's, of which a client of our own is made."""
        self._prefix = f"otel_netmon/live/{run_id}/"
        self._store = self._guarded(_client_of, store)
        self.sent = self.received = 0
        """Bytes, keys included."""

    def publish(self, rank: int, digest: bytes) -> None:
        """Write this rank's."""
        key = f"{self._prefix}{rank}"
        self._guarded(self._store.set, key, digest)
        self.sent += len(key) + len(digest)

    def read(self, ranks: Iterable[int]) -> Iterator[tuple[int, bytes]]:
        """What of these ranks is there."""
        wanted = list(ranks)
        for first in range(0, len(wanted), _AT_ONCE):
            some = wanted[first : first + _AT_ONCE]
            keys = [f"{self._prefix}{rank}" for rank in some]
            # A get of a key that is not there would wait for it.
            if not self._guarded(self._store.check, keys):
                there = [self._guarded(self._store.check, [key]) for key in keys]
                some = [rank for rank, is_there in zip(some, there, strict=True) if is_there]
                keys = [f"{self._prefix}{rank}" for rank in some]
            if keys:
                values = self._guarded(self._store.multi_get, keys)
                self.received += sum(map(len, values))
                yield from zip(some, map(bytes, values), strict=True)

    def leader(self) -> Leader | None:
        """Which rank leads; ``None``: none yet."""
        key = f"{self._prefix}leader"
        if not self._guarded(self._store.check, [key]):
            return None
        words = bytes(self._guarded(self._store.get, key)[:_LONGEST]).split()
        if len(words) < 5 or not all(map(bytes.isdigit, words)):
            return None
        rank, beat, stride, steps, count, *marks = map(int, words)
        return Leader(rank, beat, stride, tuple(marks[:count]), Judged(steps - 1, tuple(marks[count:])))

    def lead(self, leader: Leader) -> None:
        """Say who leads, and lives."""
        told = leader.told[:_MOST_TOLD]
        last, slow = leader.judged
        words = *leader[:3], last + 1, len(told), *told, *slow[-MOST:]
        self._guarded(self._store.set, f"{self._prefix}leader", " ".join(map(str, words)))

    @staticmethod
    def _guarded(call: Any, *args: Any) -> Any:
        try:
            return call(*args)
        except Exception as error:
            raise StoreGone(f"{type(error).__name__}: {error}"[:300]) from error


def _client_of(store: Any) -> Any:
    """A client of its own, with a timeout of its own; raises where that kind of store has none."""
    client = store.clone()
    client.set_timeout(_TIMEOUT)
    return client
