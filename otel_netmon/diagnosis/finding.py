"""What a diagnosis says."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, NamedTuple

SCHEMA: Final = 1
"""Version of ``Finding.to_dict``; it changes when a key changes its meaning or goes."""


class Kind(str, enum.Enum):
    """What is wrong."""

    DESYNCHRONISED = "desynchronised_rank"
    """It issued another collective, or another size, than the others under the same number."""
    DEAD = "dead_rank"
    HUNG = "hung_rank"
    """It lives, and does not come to a collective that the others wait in."""
    CUT = "cut_link"
    FROZEN = "frozen_rank"
    """Its process was stopped: none of its threads ran."""
    SILENT = "silent_rank"
    """Nothing is heard of it, though the training goes on."""
    STUCK = "stuck"
    """Something hangs or failed, and the evidence names nobody."""
    STARVED = "starved_rank"
    """It waits for a CPU more than others."""
    SLOW_RANK = "slow_rank"
    """It comes late by its own doing."""
    PAUSED = "paused_rank"
    """One step stood still for it."""
    PAUSES = "recurring_pauses"
    FLAPPING = "flapping_link"
    """One step stood still for a link that was away for a while."""
    LOSSY = "lossy_link"
    CROSS_TRAFFIC = "cross_traffic"
    """A link is slow, and carries what is not the job's."""
    SLOW_LINK = "slow_link"
    STOPPED = "stopped"
    """One step stood still, and the evidence names nobody."""
    INSUFFICIENT = "insufficient_evidence"
    NOTHING = "nothing"


class Cause(str, enum.Enum):
    """Why a rank is late, or a link slow, where the evidence tells."""

    COMPUTE = "compute"
    """More time on a CPU."""
    OFF_CPU = "compute or other"
    """Not on a CPU, in the data loader or in the garbage collector: a device, a sleep, a lock, a file."""
    INPUT = "input"
    GC = "garbage collection"
    QUOTA = "CPU quota"
    CONTENTION = "CPU contention"
    DELAY = "delay"
    """Each round trip takes longer, however little is sent."""
    RATE = "rate limit"
    """So much passes in a second and no more."""
    UNKNOWN = "unknown"


class Direction(str, enum.Enum):
    """Of a link, as its host sees it."""

    TRANSMIT = "transmit"
    RECEIVE = "receive"
    BOTH = "both"


class Confidence(str, enum.Enum):
    """How sure a finding is."""

    HIGH = "high"
    """Well beyond the thresholds, or a fact (an exit code, a number of a collective)."""
    MEDIUM = "medium"
    """Beyond the thresholds."""
    LOW = "low"
    """The culprit is one of those named, or the cause is what is left."""


class Fact(NamedTuple):
    """A value that a finding rests on, and what it is compared with."""

    name: str
    value: float
    baseline: float | None
    unit: str


@dataclass(frozen=True)
class Finding:
    """One culprit, or that there is none. ``weight`` orders findings: some seconds lost in all."""

    kind: Kind
    sentence: str
    ranks: tuple[int, ...] = ()
    hosts: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    """Sending and receiving host of the connections that show it."""
    direction: Direction | None = None
    cause: Cause | None = None
    first_step: int | None = None
    last_step: int | None = None
    lost: float | None = None
    """Seconds of each step (or of the one step) that all would save, had the culprit been like the median."""
    lost_rank_seconds: float | None = None
    """The same, times the ranks that wait."""
    confidence: Confidence = Confidence.MEDIUM
    facts: tuple[Fact, ...] = ()
    not_excluded: tuple[str, ...] = ()
    weight: float = 0.0

    @property
    def accuses(self) -> bool:
        """Whether it names a culprit."""
        return bool(self.ranks or self.hosts)

    def over(self, first: int, last: int, weight: float) -> Finding:
        """The same, over those steps."""
        return replace(self, first_step=first, last_step=last, weight=weight)

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON; units as in the docstrings."""
        return {"schema": SCHEMA, **asdict(self), "facts": [each._asdict() for each in self.facts]}


def names(ranks: tuple[int, ...] | list[int]) -> str:
    """``rank 2``, ``ranks 2 and 3``, ``ranks 0, 1, 2 and 5 more``."""
    shown = [str(rank) for rank in ranks[:8]]
    if len(ranks) > 8:
        shown[3:] = [f"{len(ranks) - 3} more"]
    head = "rank" if len(ranks) == 1 else "ranks"
    return f"{head} {' and '.join(filter(None, (', '.join(shown[:-1]), shown[-1])))}" if shown else "no rank"


def hosts_of(hosts: Mapping[int, str], ranks: Iterable[int]) -> tuple[str, ...]:
    """The known ones of these ranks."""
    return tuple(sorted({hosts[rank] for rank in ranks if hosts.get(rank)}))
