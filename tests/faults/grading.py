"""A diagnosis against the truth of its run."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from otel_netmon.analysis.waiting import Waiting
from otel_netmon.diagnosis.finding import Cause, Direction, Finding, Kind


class Expected(NamedTuple):
    """What a finding has to say; no causes: any. ``None`` among them: it need not be told."""

    kinds: frozenset[Kind]
    causes: frozenset[Cause | None] = frozenset()


def _kinds(*kinds: Kind) -> Expected:
    return Expected(frozenset(kinds))


EXPECTED: Final = {
    "compute": Expected(frozenset({Kind.SLOW_RANK}), frozenset({Cause.COMPUTE, Cause.OFF_CPU})),
    "input": Expected(frozenset({Kind.SLOW_RANK}), frozenset({Cause.INPUT})),
    "gc": Expected(frozenset({Kind.PAUSES, Kind.SLOW_RANK}), frozenset({Cause.GC})),
    "stall": Expected(frozenset({Kind.PAUSES}), frozenset({Cause.UNKNOWN, Cause.OFF_CPU})),
    "cpu": _kinds(Kind.STARVED),
    "link": Expected(frozenset({Kind.SLOW_LINK}), frozenset({Cause.RATE, None})),
    "delay": Expected(frozenset({Kind.SLOW_LINK}), frozenset({Cause.DELAY, None})),
    "loss": _kinds(Kind.LOSSY),
    "cross": _kinds(Kind.CROSS_TRAFFIC),
    "cut": _kinds(Kind.CUT),
    "flap": _kinds(Kind.FLAPPING),
    "stop": _kinds(Kind.FROZEN),
    "freeze": _kinds(Kind.FROZEN),
    "hang": _kinds(Kind.HUNG),
    "dead": _kinds(Kind.DEAD),
    "desync": _kinds(Kind.DESYNCHRONISED),
}
_DIRECTIONS: Final = {"up": Direction.TRANSMIT, "down": Direction.RECEIVE, "both": Direction.BOTH}


class Grade(str, enum.Enum):
    """Of a finding, or a run, the best first."""

    RIGHT = "right"
    DIRECTION = "direction"
    """The right culprit and cause, the wrong direction."""
    CAUSE = "cause"
    """The right culprit and kind, another cause."""
    KIND = "kind"
    """The right culprit, another kind."""
    PART = "part"
    """Some of the culprit's ranks."""
    PAIR = "pair"
    """The culprit and another."""
    NONE = "none"
    """Nobody is named, or one of two is not."""
    WRONG = "WRONG"
    FALSE_ALARM = "FALSE ALARM"

    @property
    def is_found(self) -> bool:
        """Whether the culprit is named, alone."""
        return self in (Grade.RIGHT, Grade.DIRECTION, Grade.CAUSE, Grade.KIND, Grade.PART)


_ORDER: Final = list(Grade)


@dataclass(frozen=True)
class Graded:
    """A whole diagnosis. ``also_wrong``: what it says of innocents beside its first finding."""

    grade: Grade
    top: str
    also_wrong: tuple[str, ...] = ()


class Truth:
    """What is wrong with a run, by its ``truth.json``: those of version 0.1.0 name one culprit."""

    def __init__(self, known: dict[str, Any]) -> None:
        self.name: str = known["name"]
        self.onset: int | None = known["onset_ns"]
        self.per_host: int = known.get("per_host", 1)
        self.ended: dict[int, int] = {int(rank): at for rank, at in known.get("ended_ns", {}).items()}
        self.codes: dict[int, int | None] = {int(rank): code for rank, code in known["rc"].items()}
        self.tolerates = {(kind, rank) for kind, rank in known.get("tolerates", ())}
        one = {"kind": known.get("cls"), "ranks": known.get("ranks"), "direction": known.get("direction")}
        self.culprits: list[dict[str, Any]] = known.get("culprits", [one] if one["ranks"] else [])

    @property
    def guilty(self) -> set[int]:
        return {rank for culprit in self.culprits for rank in culprit["ranks"]}

    def accused(self, finding: Finding) -> set[int]:
        """Ranks; where it names hosts alone, theirs."""
        if finding.ranks:
            return set(finding.ranks)
        first = [int(host.removeprefix("lab-h")) * self.per_host for host in finding.hosts]
        return {rank + local for rank in first for local in range(self.per_host)}

    def grade(self, findings: Sequence[Finding]) -> Graded:
        """Of all that is said: the first finding, and whether each culprit is named."""
        top = short(findings[0]) if findings else "no finding"
        accusing = [each for each in findings if each.accuses]
        if not self.culprits:
            wrong = [each for each in accusing if not self._is_tolerated(each)]
            return Graded(Grade.FALSE_ALARM if wrong else Grade.RIGHT, short(wrong[0]) if wrong else top)
        innocents = tuple(short(each) for each in accusing if not self.accused(each) & self.guilty)
        if accusing and not self.accused(accusing[0]) & self.guilty:
            return Graded(Grade.WRONG, top, innocents[1:])
        grades = [
            min((self._of(culprit, each) for each in accusing), key=_ORDER.index, default=Grade.NONE)
            for culprit in self.culprits
        ]
        grades = [Grade.NONE if grade is Grade.WRONG else grade for grade in grades]
        return Graded(max(grades, key=_ORDER.index), top, innocents)

    def _of(self, culprit: dict[str, Any], finding: Finding) -> Grade:
        accused, ranks = self.accused(finding), set(culprit["ranks"])
        expected = EXPECTED[culprit["kind"]]
        if not accused & ranks:
            return Grade.WRONG
        if accused - ranks:
            # Two ranks that are slow for the same cause may be told together.
            if not accused <= self.guilty:
                return Grade.PAIR
        elif ranks - accused:
            return Grade.PART
        if finding.kind not in expected.kinds:
            return Grade.KIND
        if expected.causes and finding.cause not in expected.causes:
            return Grade.CAUSE
        if culprit["direction"] and finding.direction not in (None, _DIRECTIONS[culprit["direction"]]):
            return Grade.DIRECTION
        return Grade.RIGHT

    def _is_tolerated(self, finding: Finding) -> bool:
        return all((finding.kind.value, rank) in self.tolerates for rank in self.accused(finding))


def short(finding: Finding) -> str:
    """A finding in some words."""
    who = map(str, finding.ranks or finding.hosts)
    more = [each.value for each in (finding.cause, finding.direction) if each is not None]
    return " ".join((finding.kind.value, *who, *more))


def by_waiting(waiting: Waiting | None) -> int | None:
    """The rank that version 0.2.0's summary blamed: that of the shortest waits."""
    if waiting is None or waiting.matched < 20 or not waiting.ranks:
        return None
    shares = [each.share or 0.0 for each in waiting.ranks]
    caused = sum(each.caused for each in waiting.ranks)
    first = max(waiting.ranks, key=lambda each: each.caused)
    count = len(waiting.ranks)
    is_small = sum(shares) / count < 0.05
    return None if is_small or not caused or first.caused / caused < (count + 1) / (2 * count) else first.rank


def grade_rank(truth: Truth, rank: int | None) -> Grade:
    """Of the name of a rank alone."""
    if not truth.culprits:
        return Grade.RIGHT if rank is None else Grade.FALSE_ALARM
    if rank is None:
        return Grade.NONE
    return Grade.RIGHT if rank in truth.guilty else Grade.WRONG


def share(some: Iterable[bool]) -> str:
    """``3/4``."""
    known = list(some)
    return f"{sum(known)}/{len(known)}"
