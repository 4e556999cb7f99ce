"""How far this rank is on each of its groups: the last collective that it issued, and the last that ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.job.groups import Group

_MOST: Final = 64


class Progress:
    """Of the groups that were used last. Used by one thread; others may read the dicts, which are replaced."""

    def __init__(self) -> None:
        self.issued: dict[Group, int] = {}
        self.ended: dict[Group, int] = {}

    def end(self, events: Iterable[CollectiveEvent]) -> None:
        """These ended."""
        ended = self.ended
        for event in events:
            number, group = event.sequence, event.kind.group
            if number is not None and number > ended.get(group, -1):
                self.reach(group, number)

    def reach(self, group: Group, number: int) -> None:
        """A group's collectives ended up to that one."""
        if number > self.ended.get(group, -1):
            self.ended = _with(self.ended, group, number)
        self._issue(group, number)

    def see(self, in_flight: Iterable[CollectiveEvent]) -> None:
        """These were issued, and have not ended."""
        for event in in_flight:
            if event.sequence is not None:
                self._issue(event.kind.group, event.sequence)

    def _issue(self, group: Group, number: int) -> None:
        if number > self.issued.get(group, -1):
            self.issued = _with(self.issued, group, number)


def _with(known: dict[Group, int], group: Group, number: int) -> dict[Group, int]:
    if group in known:
        known[group] = number  # no reader sees a dict change its size
        return known
    found = {**known, group: number}
    while len(found) > _MOST:
        del found[next(iter(found))]
    return found
