"""The verdict in four numbers: what it costs, who, when and why. All from the finding and the summary."""

from __future__ import annotations

from typing import Final, NamedTuple

from otel_netmon.analysis.results import Diagnosis, Summary
from otel_netmon.diagnosis.finding import Cause, Direction, Finding, Kind, names
from otel_netmon.report.svg import time
from otel_netmon.report.words import counted, fact, share

_ENDED: Final = frozenset((Kind.DESYNCHRONISED, Kind.DEAD, Kind.HUNG, Kind.CUT, Kind.STUCK))
"""After these there are no more steps."""
_NOBODY: Final = frozenset((Kind.NOTHING, Kind.INSUFFICIENT))
_WAYS: Final = {
    Direction.TRANSMIT: "on its way out",
    Direction.RECEIVE: "on its way in",
    Direction.BOTH: "both ways",
}


class Card(NamedTuple):
    """One number with what it means."""

    head: str
    value: str
    text: str
    section: str
    """Where the page shows it."""


def leading(summary: Summary, run: str | None) -> tuple[Diagnosis | None, Finding | None]:
    """The diagnosis of the run that the pictures show, and its costliest finding."""
    mine = next((each for each in summary.diagnoses if each.run_id == run), None)
    mine = mine or next(iter(summary.diagnoses), None)
    return mine, mine.findings[0] if mine is not None and mine.findings else None


def cards(summary: Summary, diagnosis: Diagnosis, finding: Finding) -> tuple[Card, ...]:
    """Cost, culprit, time and cause."""
    if finding.kind in _NOBODY:
        return _of_nothing(summary, diagnosis)
    return _cost(summary, finding), _who(summary, finding), _when(summary, diagnosis, finding), _why(finding)


def _cost(summary: Summary, finding: Finding) -> Card:
    if finding.lost is None:
        return Card("cost", "not known", "how much faster the training would be without it", "time")
    first, last = finding.first_step, finding.last_step
    waiting = finding.lost_rank_seconds
    ranks = f"; {time(waiting)} over all ranks that wait" if waiting else ""
    if first is None or last is None or first == last:
        return Card("cost", time(finding.lost), f"lost once{ranks}", "time")
    median = summary.steps.median if summary.steps is not None else None
    of = f"{share(finding.lost / median)} of a median step of {time(median)}" if median else ""
    total = f"some {time(finding.lost * (last - first + 1))} over those steps"
    return Card("cost", f"{time(finding.lost)} a step", f"{of}{ranks}; {total}".removeprefix("; "), "time")


def _who(summary: Summary, finding: Finding) -> Card:
    hosts = " or ".join(finding.hosts)
    if not finding.ranks:
        way = f", {_WAYS[finding.direction]}" if finding.direction is not None else ""
        pairs = ", ".join(f"{one} to {other}" for one, other in finding.pairs[:3])
        words = f"seen from {pairs}" if pairs else "no rank of it is to blame"
        return Card("who", f"{hosts or 'nobody named'}{way}" if hosts else "nobody named", words, "hosts")
    words = f"on host {hosts}" if hosts else "its host is not known"
    waits = {each.rank: each for each in summary.waiting.ranks} if summary.waiting is not None else {}
    if len(finding.ranks) == 1 and finding.ranks[0] in waits and summary.waiting is not None:
        of = waits[finding.ranks[0]]
        words += (
            f"; it was last in {of.waited_for} of {summary.waiting.matched} collectives, and each other rank"
            f" waited {time(of.caused)} for it in all"
        )
    return Card("who", names(finding.ranks), words, "late")


def _when(summary: Summary, diagnosis: Diagnosis, finding: Finding) -> Card:
    first, last = finding.first_step, finding.last_step
    if first is None or last is None:
        done = f"after {counted(diagnosis.steps, 'step')} that all ranks took"
        return Card("when", "at the end" if finding.kind in _ENDED else "not tied to steps", done, "late")
    if first == last:
        return Card(
            "when", f"step {first}", f"one of {counted(diagnosis.steps, 'step')} that all ranks took", "late"
        )
    until = "; to the end" if summary.steps is not None and last >= diagnosis.steps - 1 else ""
    return Card(
        "when",
        f"steps {first} to {last}",
        f"of {counted(diagnosis.steps, 'step')} that all ranks took{until}",
        "late",
    )


def _why(finding: Finding) -> Card:
    cause = finding.cause
    value = cause.value if cause not in (None, Cause.UNKNOWN) else finding.kind.value.replace("_", " ")
    facts = "; ".join(fact(each).replace(" us", " µs") for each in finding.facts[:2])
    return Card("why", value, facts or "the evidence tells no cause", "findings")


def _of_nothing(summary: Summary, diagnosis: Diagnosis) -> tuple[Card, ...]:
    seen = f"{counted(diagnosis.steps, 'step')} of {counted(diagnosis.ranks, 'rank')}"
    waiting, steps = summary.waiting, summary.steps
    if waiting is None or not waiting.ranks:
        found = [
            Card("waiting", "not known", "no collective was seen on all of its ranks", "time"),
            Card("for whom", "not known", "no rank is known to have waited for another", "late"),
        ]
    else:
        most = max(waiting.ranks, key=lambda each: each.caused)
        longest = max(waiting.ranks, key=lambda each: each.waited)
        caused = sum(each.caused for each in waiting.ranks) or 1.0
        of = f"; {share(longest.share)} of its step time" if longest.share is not None else ""
        words = f"waited {time(longest.waited)}, the most of all, summed over its collectives{of}"
        even = f"{share(most.caused / caused)} of it; an even share is {share(1 / len(waiting.ranks))}"
        found = [
            Card("waiting", f"rank {longest.rank}", words, "time"),
            Card("for whom", f"rank {most.rank}" if most.caused else "nobody", even, "late"),
        ]
    if steps is not None and steps.median is not None:
        words = f"the median of {counted(steps.timed, 'step')}; 99 % take no longer than {time(steps.p99)}"
        found.append(Card("step", time(steps.median), words, "late"))
    else:
        found.append(Card("step", "not known", "no complete step has a span or a log event", "late"))
    matched = waiting.matched if waiting is not None else 0
    rests = Card("rests on", str(matched), f"collectives seen on all their ranks, and {seen}", "numbers")
    return (*found, rests)
