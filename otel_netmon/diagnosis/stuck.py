"""Where the ranks of each group stand, if something did not end: who waits, and for whom."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from otel_netmon.diagnosis.evidence import DEFAULT_GROUP, CallSeen, Evidence
from otel_netmon.diagnosis.finding import Fact

_MOST_SAID: Final = 120
_PLACE: Final = re.compile(r"^\[[^]\s]*:\d+\]\s*")
"""Where in its source a library found the failure: gloo's messages begin with that."""


@dataclass(frozen=True)
class Stuck:
    """The furthest collective of a group that some rank is in, or failed in."""

    group: str
    sequence: int
    members: frozenset[int]
    waiting: dict[int, CallSeen]
    """Ranks in it. Those behind are in an earlier one, which others have ended, or in none."""
    missing: tuple[int, ...]
    """Ranks that never issued it."""
    unknown: tuple[int, ...]
    """Members of which nothing is known."""
    waited: float | None
    """Seconds for which some rank waited in it, by its own clock; ``None``: not known."""
    failed: bool

    @property
    def after(self) -> str:
        """For how long, in a sentence."""
        return "" if self.waited is None else f" for {self.waited:.1f} s"

    @property
    def facts(self) -> tuple[Fact, ...]:
        """For how long, as a fact."""
        return () if self.waited is None else (Fact("waited", self.waited, None, "s"),)

    @property
    def said(self) -> str:
        """What a failure there says, at the end of a sentence."""
        said = {rank: call.message for rank, call in sorted(self.waiting.items()) if call.message}
        if not said:
            return ""
        rank, message = next(iter(said.items()))
        message = _PLACE.sub("", message).rstrip(". ")
        return f'; rank {rank} was told "{message[:_MOST_SAID]}{"…" if len(message) > _MOST_SAID else ""}"'

    @property
    def name(self) -> str:
        """As it is called in a sentence."""
        operation = next(iter(self.waiting.values())).operation
        group = "" if self.group == DEFAULT_GROUP else f" of group {self.group}"
        return f"{operation} number {self.sequence}{group}"


def stuck_in(evidence: Evidence, group: str) -> Stuck | None:
    """``None`` if all that was issued on the group ended well."""
    by_rank = evidence.calls[group]
    first = {rank: number for rank, calls in by_rank.items() if (number := _first_open(calls)) is not None}
    if not first:
        return None
    furthest = max(first.values())
    waiting = {rank: by_rank[rank][furthest] for rank, number in first.items() if number == furthest}
    members = _members(evidence, group)
    known = members & evidence.hosts.keys()
    times = [evidence.waited(rank, call) for rank, call in waiting.items()]
    return Stuck(
        group,
        furthest,
        members,
        waiting,
        tuple(sorted(rank for rank in known if evidence.head(group, rank) < furthest)),
        tuple(sorted(members - known)),
        max((each for each in times if each is not None), default=None),
        any(call.error is not None for call in waiting.values()),
    )


def _first_open(calls: dict[int, CallSeen]) -> int | None:
    """The first that failed or did not end; one that failed, and that the training survived, is history."""
    ended = [number for number, call in calls.items() if call.end is not None and call.error is None]
    last = max(ended, default=-1)
    return min((number for number in calls if number > last), default=None)


def _members(evidence: Evidence, group: str) -> frozenset[int]:
    said = evidence.members.get(group)
    if said is not None:
        return said
    if group == DEFAULT_GROUP or evidence.group_sizes.get(group) == evidence.world_size:
        return frozenset(range(evidence.world_size or 0))
    return frozenset(evidence.calls[group])


def waits_for(some: Iterable[Stuck]) -> dict[int, set[int]]:
    """By rank, those that have not come to what it waits in, in any group."""
    found: dict[int, set[int]] = defaultdict(set)
    for stuck in some:
        for rank in stuck.waiting:
            found[rank].update(stuck.missing)
    return found
