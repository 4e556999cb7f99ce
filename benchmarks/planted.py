"""The shape of a simulated job, and the faults that are planted in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from otel_netmon.diagnosis.finding import Finding, Kind


class Shape(NamedTuple):
    """Ranks that are in one host, stages of the pipeline (two or more), and copies of the model."""

    tensor: int
    pipeline: int
    data: int

    @property
    def ranks(self) -> int:
        return self.tensor * self.pipeline * self.data

    @property
    def hosts(self) -> int:
        return self.pipeline * self.data


class Fault(NamedTuple):
    """What is to be found: ``ranks`` or ``hosts`` are to blame for it, from step ``since`` on."""

    name: str
    kind: Kind
    ranks: tuple[int, ...]
    hosts: tuple[str, ...]
    since: int

    def is_named(self, finding: Finding) -> bool:
        """Whether ``finding`` says it: the right kind, and nobody but the culprit."""
        who = (finding.ranks == self.ranks) if self.ranks else (finding.hosts == self.hosts)
        return finding.kind is self.kind and who


KINDS: Final = {
    "straggler": Kind.SLOW_RANK,
    "throttled": Kind.STARVED,
    "collector": Kind.PAUSES,
    "loader": Kind.PAUSES,
    "slow_link": Kind.SLOW_LINK,
    "lossy_link": Kind.LOSSY,
}
"""The faults that can be planted, and what a diagnosis has to call them."""
OF_HOSTS: Final = ("slow_link", "lossy_link")


def host_name(host: int) -> str:
    return f"node{host:04d}"


def planted(shape: Shape, names: Sequence[str], steps: int) -> tuple[Fault, ...]:
    """Where each fault is, away from the others: the culprits differ, and so do their hosts."""
    found = []
    for place, name in enumerate(names):
        host = (1 + 3 * place + shape.hosts // 3) % shape.hosts
        since = steps // 4
        if name in OF_HOSTS:
            found.append(Fault(name, KINDS[name], (), (host_name(host),), since))
        else:
            rank = host * shape.tensor + place % shape.tensor
            found.append(Fault(name, KINDS[name], (rank,), (host_name(host),), since))
    return tuple(found)
