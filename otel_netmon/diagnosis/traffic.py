"""What one rank read of its connections: columns for each peer, so that millions of readings are no objects."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Final, NamedTuple

from otel_netmon.records import PeerTraffic

_NAN: Final = math.nan


class Span(NamedTuple):
    """Places of readings, as of a slice."""

    first: int
    behind: int

    @property
    def slice(self) -> slice:
        """Of a column."""
        return slice(self.first, self.behind)


class PeerReadings:
    """Those of the connections to one peer, in the order of time. Memory: 76 bytes each."""

    __slots__ = ("at", "backoff", "busy", "host", "interval", "retransmits", "rtt", "segments", "sent", "shortest")

    def __init__(self) -> None:
        self.host: str | None = None
        """The peer's, where it was told."""
        self.at = array("q")
        """Nanoseconds of the reading rank's own clock."""
        self.sent, self.segments, self.retransmits = array("q"), array("q"), array("q")
        """Bytes and segments since the reading before."""
        self.backoff = array("i")
        self.interval, self.busy = array("d"), array("d")
        """Seconds since the reading before, and of those with something to send."""
        self.rtt, self.shortest = array("d"), array("d")
        """Seconds; NaN where nothing moved."""

    def __len__(self) -> int:
        return len(self.at)

    def add(self, each: PeerTraffic) -> None:
        """Add a reading that is later than all others; else ``put_in_order`` has to follow."""
        self.host = each.host or self.host
        self.at.append(each.at)
        self.sent.append(each.bytes_sent or 0)
        self.segments.append(each.segments_sent or 0)
        self.retransmits.append(each.retransmits)
        self.backoff.append(min(each.backoff, 255))
        self.interval.append(each.interval)
        self.busy.append(each.busy_time or 0.0)
        self.rtt.append(_NAN if each.rtt is None else each.rtt)
        self.shortest.append(_NAN if each.shortest_rtt is None else each.shortest_rtt)

    def keep(self, most: int) -> None:
        """Drop the oldest, if there are more."""
        gone = len(self.at) - most
        if gone > 0:
            for name in self.__slots__:
                column = getattr(self, name)
                if isinstance(column, array):
                    del column[:gone]

    def merge(self, other: PeerReadings) -> None:
        """Add those of ``other``, whenever they were made."""
        self.host = other.host or self.host
        for name in self.__slots__:
            column = getattr(self, name)
            if isinstance(column, array):
                column.extend(getattr(other, name))

    def put_in_order(self) -> None:
        """Of time, if they were not added in that."""
        at = self.at
        if any(at[place] > at[place + 1] for place in range(len(at) - 1)):
            order = sorted(range(len(at)), key=at.__getitem__)
            for name in self.__slots__:
                column = getattr(self, name)
                if isinstance(column, array):
                    column[:] = array(column.typecode, map(column.__getitem__, order))

    def between(self, first: int, last: int) -> Span:
        """Those of that time, both ends included."""
        return Span(bisect_left(self.at, first), bisect_right(self.at, last))


class Traffic:
    """Of one rank, by peer."""

    __slots__ = ("peers",)

    def __init__(self, readings: Iterable[PeerTraffic] = ()) -> None:
        self.peers: dict[int, PeerReadings] = {}
        for each in sorted(readings, key=lambda one: one.at):
            self.add(each)

    def add(self, each: PeerTraffic) -> PeerReadings:
        """Add a reading that is later than all others of that peer; those of it."""
        of = self.peers.get(each.peer)
        if of is None:
            of = self.peers[each.peer] = PeerReadings()
        of.add(each)
        return of

    def merge(self, other: Traffic) -> None:
        """Add the readings of ``other``, whenever they were made."""
        for peer, readings in other.peers.items():
            self.peers.setdefault(peer, PeerReadings()).merge(readings)

    def put_in_order(self) -> None:
        """Of time, if they were not added in that."""
        for readings in self.peers.values():
            readings.put_in_order()

    def latest_intervals(self, most: int) -> list[float]:
        """Seconds between the last readings of the peer that was read most often."""
        longest = max(self.peers.values(), key=len, default=None)
        return [] if longest is None else list(longest.interval[-most:])
