"""Did one step stand still for seconds, and for whom?

The rank whose own time grew paused; if the thread that reads its connections stood still as well, all of its
process was stopped. Where no rank's own time grew, the host that the connections with timeouts have in common was
away.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from otel_netmon.diagnosis import thresholds as limit
from otel_netmon.diagnosis.evidence import Evidence
from otel_netmon.diagnosis.finding import Cause, Confidence, Direction, Fact, Finding, Kind, hosts_of, names
from otel_netmon.diagnosis.medians import median
from otel_netmon.diagnosis.statistics import Quantity, Window
from otel_netmon.diagnosis.traffic import Traffic

_AFTER = 1_500_000_000
"""Nanoseconds behind a step in which a reading still tells of it."""
_QUANTITIES: Final[dict[Cause, tuple[str, Quantity]]] = {
    Cause.GC: ("its garbage collector ran", "gc"),
    Cause.CONTENTION: ("it waited for a CPU", "run_queue"),
    Cause.INPUT: ("it waited for its data loader", "data"),
    Cause.COMPUTE: ("it computed", "cpu"),
}


def find(evidence: Evidence, steps: list[int]) -> list[Finding]:
    """Of each step that stood still, one."""
    if len(steps) < limit.MIN_STEPS:
        return []
    usual = Window(evidence, steps).duration
    found = []
    for number in stood_still(evidence, steps, usual):
        took = evidence.steps[number].shortest()
        found.append(_Stop(evidence, Window(evidence, [number]), number, took, took - usual).judge())
    return found


def stood_still(evidence: Evidence, steps: list[int], usual: float) -> list[int]:
    """Those steps that say nothing of how the others went."""
    least = max(limit.STALL_SECONDS, limit.STALL_RATIO * usual)
    return [number for number in steps if evidence.steps[number].shortest() > least]


@dataclass(frozen=True)
class _Stop:
    """One step that stood still."""

    evidence: Evidence
    window: Window
    number: int
    took: float
    lost: float

    def judge(self) -> Finding:
        lost = self.lost
        late, collected = self._excess("own"), self._excess("gc")
        slow = max(late, key=late.__getitem__, default=None)
        is_slow = slow is not None and late[slow] > lost / 2
        gaps = {rank: self._gap(rank) for rank in self.window.ranks}
        stopped = max(gaps, key=gaps.__getitem__)
        usual = median(gap for rank, gap in gaps.items() if rank != stopped)
        is_stopped = gaps[stopped] > 0.6 * lost and gaps[stopped] > 2.5 * usual
        if is_stopped and (not is_slow or slow == stopped):
            return self._finding(
                Kind.FROZEN,
                (stopped,),
                f"rank {stopped}'s process was stopped; even the thread that reads its connections stood still "
                f"for {gaps[stopped]:.1f} s, those of the others for {usual:.1f} s",
                facts=(Fact("time between two readings", gaps[stopped], usual, "s"),),
            )
        if slow is not None and is_slow:
            return self._paused(slow, late[slow])
        collecting = max(collected, key=collected.__getitem__, default=None)
        if collecting is not None and collected[collecting] > 0.4 * lost:
            return self._paused(collecting, collected[collecting])
        return self._away()

    def _excess(self, quantity: Quantity) -> dict[int, float]:
        compared = self.window.compare(quantity)
        return {rank: excess[0] for rank in self.window.ranks if (excess := compared.excess(rank))}

    def _gap(self, rank: int) -> float:
        """The longest time between two readings of its connections, around that step, in seconds."""
        first, last = self.window.span(rank)
        peers = self.evidence.traffic.get(rank, Traffic()).peers.values()
        return max(
            (max(of.interval[of.between(first, last + _AFTER).slice], default=0.0) for of in peers), default=0.0
        )

    def _paused(self, rank: int, seconds: float) -> Finding:
        cause, why = Cause.UNKNOWN, "in what is not known"
        for candidate, (what, quantity) in _QUANTITIES.items():
            more = self.window.compare(quantity).excess(rank)
            if more and more[0] > self.lost / 2:
                cause, why = candidate, f"{what} for {more[0]:.1f} s more than on the others"
                break
        facts = (Fact("own time beyond the others'", seconds, 0.0, "s"),)
        return self._finding(
            Kind.PAUSED, (rank,), f"rank {rank} paused for {seconds:.1f} s; {why}", facts=facts, cause=cause
        )

    def _away(self) -> Finding:
        pairs = self._timeouts()
        ends = Counter(end for pair in pairs for end in pair).most_common(2)
        if len(pairs) >= 2 and ends[0][1] > (ends[1][1] if len(ends) > 1 else 0):
            rank, count = ends[0]
            host = self.evidence.hosts.get(rank)
            return self._finding(
                Kind.FLAPPING,
                (rank,),
                f"the network of rank {rank}{f' (host {host})' if host else ''} was away; of {len(pairs)} "
                f"connections that ran into timeouts, {count} are its own",
                facts=(Fact("connections with timeouts", float(count), float(len(pairs)), ""),),
                direction=Direction.BOTH,
            )
        where = (
            f"timeouts between {names(sorted({end for pair in pairs for end in pair}))}"
            if pairs
            else "no timeouts"
        )
        said = f"no rank's own time grew, none was stopped, and there were {where}: nobody can be named"
        return self._finding(Kind.STOPPED, (), said, confidence=Confidence.LOW)

    def _timeouts(self) -> set[tuple[int, int]]:
        """Pairs whose timeout was doubled; where there are none, those that sent something again."""
        signs: dict[tuple[int, int], int] = {}
        for rank in self.window.ranks:
            first, last = self.window.span(rank)
            for peer, of in self.evidence.traffic.get(rank, Traffic()).peers.items():
                part = of.between(first, last + _AFTER).slice
                if any(of.retransmits[part]) or any(of.backoff[part]):
                    signs[rank, peer] = max(of.backoff[part])
        return {pair for pair, backoff in signs.items() if backoff} or set(signs)

    def _finding(self, kind: Kind, ranks: tuple[int, ...], said: str, **more: Any) -> Finding:
        return Finding(
            kind,
            f"Step {self.number} stood still for {self.took:.1f} s: {said}.",
            ranks=ranks,
            hosts=hosts_of(self.evidence.hosts, ranks),
            first_step=self.number,
            last_step=self.number,
            lost=self.lost,
            lost_rank_seconds=self.lost * len(self.evidence.steps[self.number]),
            weight=self.lost,
            **more,
        )
