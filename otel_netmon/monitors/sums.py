"""Totals over members that come and go: CPUs, queues, NICs, ports, threads, cgroups. No I/O.

A member is recognised by its identity, never by its position: the CPU's number, the NIC's index. So a total
neither falls when a member goes nor leaps when one comes, and what a member counted stays in.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Hashable, Mapping
from typing import Final, TypeVar

_K = TypeVar("_K", bound=Hashable)

_MOST: Final = 8192
"""Totals kept of keys that are gone; beyond that those go that were fed longest ago."""
_MOST_GONE: Final = 1024
"""Members kept that are gone, for when they come back."""


class MemberDeltas:
    """What each member of a set counted between one reading of the set and the next.

    One whose count fell began anew: all that it has is new. One that comes later than the first reading may have
    counted for years, so it counts from there on; unless they are ``born`` with a count of 0 between two readings,
    as threads are. With ``heirs`` it is a name that is watched, and its holders follow one another, as NICs of one
    name do: one that replaced the holder and has counted less began at 0.

    ``wrap`` is the number at which the counts begin again at 0. Used by one thread at a time.
    """

    def __init__(self, *, wrap: int | None = None, heirs: bool = False) -> None:
        self._wrap = wrap
        self._heirs = heirs
        self._most_gone = 8 if heirs else _MOST_GONE
        self._begun = False
        self._last: dict[Hashable, float] = {}
        self._present: Collection[Hashable] = ()

    def moved(self, counts: Mapping[_K, float], *, born: bool = False) -> dict[_K, float]:
        """What each added since the reading before; at the first reading all that it has."""
        last, new = self._last, born or not self._begun
        holder = next(reversed(last.values()), None) if self._heirs else None
        found: dict[_K, float] = {}
        for member, now in counts.items():
            before = last.get(member)
            if before is not None:
                found[member] = self._since(now, before, seen=member in self._present)
            else:
                found[member] = max(0, now) if new or (holder is not None and now < holder) else 0
        for member, now in counts.items():
            last.pop(member, None)  # so that those seen longest ago stand first
            last[member] = now
        self._begun = self._begun or bool(counts)
        self._present = frozenset(counts)
        while len(last) > len(counts) + self._most_gone:
            del last[next(iter(last))]
        return found

    def forget(self, gone: Collection[Hashable]) -> None:
        """Members that will not come back: one with the same identity is another."""
        for member in gone:
            self._last.pop(member, None)

    def _since(self, now: float, last: float, *, seen: bool) -> float:
        if now >= last:
            return now - last
        if self._wrap is not None and seen and (wrapped := now - last + self._wrap) < self._wrap / 2:
            return wrapped
        return max(0, now)


class MemberTotals:
    """A total for each key, over the members of the set that it stands for. See ``MemberDeltas``."""

    def __init__(self, *, wrap: int | None = None, heirs: bool = False) -> None:
        self._new = functools.partial(MemberDeltas, wrap=wrap, heirs=heirs)
        self._sums: dict[Hashable, tuple[float, MemberDeltas]] = {}
        self._fed = 0

    def add(self, key: Hashable, counts: Mapping[_K, float]) -> float:
        """Count a reading of all the members that are there; the total. It is never below the one before."""
        total, members = self._sums.pop(key, None) or (0, self._new())
        total += sum(members.moved(counts).values())
        self._sums[key] = total, members
        self._fed += 1
        return total

    def trim(self) -> None:
        """A reading is over. Where keys come and go as well, this is what bounds them."""
        while len(self._sums) > self._fed + _MOST:
            del self._sums[next(iter(self._sums))]
        self._fed = 0
