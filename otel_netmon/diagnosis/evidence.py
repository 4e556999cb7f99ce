"""What a diagnosis rests on: what all ranks did in a window of steps, bounded, whoever collected it.

Times are nanoseconds of the clock of the rank (or host) that they are of, and never compared with another's.
``None`` is not known, never 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from otel_netmon.diagnosis import thresholds
from otel_netmon.diagnosis.steps import StepTable
from otel_netmon.diagnosis.traffic import Traffic
from otel_netmon.records import HostTraffic, Value

DEFAULT_GROUP: Final = "0"
"""torch's name for the group of all ranks."""

Reading = tuple[int, float]
"""When, and what."""
CounterKey = tuple[str, str, tuple[tuple[str, Value], ...]]
"""A metric, the process that reads it, and the attributes of one of its series."""


def _go_on() -> None:
    """There is no hurry, and nobody waits."""


class CallSeen(NamedTuple):
    """One rank's part in one numbered collective. ``end`` is ``None`` while it is in flight, and where the process
    ended with it in flight."""

    operation: str
    size: int | None
    start: int
    end: int | None
    error: str | None = None
    message: str | None = None
    """What the failure says."""


class Exit(NamedTuple):
    """How a rank's process ended: an exit code, or a signal."""

    code: int | None
    signal: int | None
    time: int | None = None
    """When, by the clock of its host."""


@dataclass
class Evidence:
    """Of one run; everything by rank, where nothing else is said. The lists are in the order of time."""

    world_size: int | None = None
    hosts: dict[int, str] = field(default_factory=dict)
    """Of each rank of which anything is known."""
    steps: dict[int, StepTable] = field(default_factory=dict)
    """By number of the step."""
    open_since: dict[int, int] = field(default_factory=dict)
    """Start of the step that had not ended when the rank was last heard of."""
    traffic: dict[int, Traffic] = field(default_factory=dict)
    nics: dict[int, list[HostTraffic]] = field(default_factory=dict)
    """What the NICs that a rank uses moved, read together with its ``traffic``."""
    floors: dict[tuple[str, str], list[Reading]] = field(default_factory=dict)
    """By host and other host, and by the clock of the first: the shortest round-trip time (s) of a few probes."""
    calls: dict[str, dict[int, dict[int, CallSeen]]] = field(default_factory=dict)
    """By group, then rank, then sequence number: the last ones."""
    heads: dict[str, dict[int, int]] = field(default_factory=dict)
    """By group and rank, the last number that it is known to have issued, where more is known than the calls."""
    group_sizes: dict[str, int] = field(default_factory=dict)
    members: dict[str, frozenset[int]] = field(default_factory=dict)
    """Of groups whose ranks are known; of others, those that were seen on it."""
    backed_off: dict[int, dict[int | str, int]] = field(default_factory=dict)
    """When the retransmission timeout of its connections to a peer (a rank, or an address) was last seen doubled
    at least twice."""
    counters: dict[str, dict[CounterKey, list[Reading]]] = field(default_factory=dict)
    """By host: readings of running totals, when they were made."""
    last_sign: dict[int, int] = field(default_factory=dict)
    """When it was last heard of."""
    said_end: set[int] = field(default_factory=set)
    """Ranks whose process ended in good order, with a step or collectives open."""
    exits: dict[int, Exit] = field(default_factory=dict)
    silent: dict[int, float] = field(default_factory=dict)
    """Seconds since it was last heard of, by the clock of who collects; empty where nobody waits for more."""
    pause: Callable[[], None] = field(default=_go_on, repr=False, compare=False)
    """Called between pieces of the work that is done on this: others may need the interpreter meanwhile."""

    @property
    def ranks(self) -> list[int]:
        """Those of which anything is known."""
        return sorted(self.hosts)

    def head(self, group: str, rank: int) -> int:
        """The last number that a rank issued on a group; -1: none is known."""
        calls = self.calls.get(group, {}).get(rank, {})
        return max(max(calls, default=-1), self.heads.get(group, {}).get(rank, -1))

    def waited(self, rank: int, call: CallSeen) -> float | None:
        """Seconds that a rank was in a call that failed or did not end, by its own clock."""
        end = self.last_sign.get(rank) if call.end is None else call.end
        return None if end is None else max(0.0, (end - call.start) / 1e9)

    @property
    def heard(self) -> list[int]:
        """Those that are not silent."""
        return [rank for rank in self.hosts if self.silent.get(rank, 0.0) <= thresholds.SILENT_SECONDS]

    @property
    def mute(self) -> list[int]:
        """Ranks of the job of which nothing is known."""
        return [rank for rank in range(self.world_size or 0) if rank not in self.hosts]

    def common_steps(self, first: int) -> list[int]:
        """Numbers of the steps from ``first`` on that at least nine of ten ranks completed, all of up to nine;
        without ranks that are silent."""
        heard = len(self.heard)
        needed = heard - heard // 10
        return sorted(number for number, of in self.steps.items() if number >= first and len(of) >= needed > 0)

    def growth(
        self, host: str, metric: str, first: int, last: int, about: Mapping[str, str] | None = None
    ) -> float | None:
        """By how much ``metric``'s series with these attributes grew a second, from ``first`` to ``last``, each
        between its own readings; ``None`` where none was read twice in that time. A series that is new grew from
        0: a connection that was made since the others were first read, say."""
        series = [
            (readings, [each for each in readings if first <= each[0] <= last])
            for (name, _, attributes), readings in self.counters.get(host, {}).items()
            if name == metric and (about or {}).items() <= dict(attributes).items()
        ]
        begin = min((inside[0][0] for _, inside in series if inside), default=0)
        grown = None
        for readings, inside in series:
            is_new = bool(inside) and inside[0] == readings[0] and inside[0][0] > begin
            known = [(begin, 0.0), *inside] if is_new else inside
            if len(known) > 1:
                moved, seconds = known[-1][1] - known[0][1], (known[-1][0] - known[0][0]) / 1e9
                grown = (grown or 0.0) + moved / seconds
        return grown
