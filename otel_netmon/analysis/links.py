"""What moved between hosts over the training's own connections, from each rank's readings of them."""

from __future__ import annotations

from array import array
from collections.abc import Mapping

from otel_netmon.analysis.details import Link
from otel_netmon.diagnosis.medians import known, median
from otel_netmon.diagnosis.traffic import Traffic


class _Sums:
    def __init__(self) -> None:
        self.sent = self.segments = self.retransmits = 0
        self.busy = 0.0
        self.rtts: array[float] = array("d")
        self.shortest: array[float] = array("d")


def links(traffic: Mapping[int, Traffic], hosts: Mapping[int, str]) -> tuple[Link, ...]:
    """By sending and receiving host; connections within a host too, where there are some."""
    found: dict[tuple[str, str], _Sums] = {}
    for rank, of in traffic.items():
        for peer, readings in of.peers.items():
            receiver = readings.host or hosts.get(peer)
            if not receiver or not hosts.get(rank):
                continue
            sums = found.setdefault((hosts[rank], receiver), _Sums())
            sums.sent += sum(readings.sent)
            sums.segments += sum(readings.segments)
            sums.retransmits += sum(readings.retransmits)
            sums.busy += sum(readings.busy)
            sums.rtts.extend(known(readings.rtt))
            sums.shortest.extend(known(readings.shortest))
    return tuple(
        Link(
            sender,
            receiver,
            sums.sent,
            median(sums.rtts) if sums.rtts else None,
            min(sums.shortest, default=None),
            sums.segments,
            sums.retransmits,
            sums.sent / sums.busy if sums.busy > 0 else None,
        )
        for (sender, receiver), sums in sorted(found.items())
    )
