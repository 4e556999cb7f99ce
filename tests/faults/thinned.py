"""A recorded run as it would be with ``OTEL_NETMON_VOLUME=steps`` and thousands of ranks: no span of a collective
but of those that failed, and single collectives of every 100th, slow and unfinished steps only."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from otel_netmon import semconv
from otel_netmon.emit.chosen import EVERY
from otel_netmon.job.slow_steps import SlowRule
from otel_netmon.records import Collective, RankStep
from otel_netmon.store.problems import Problems
from otel_netmon.store.reader import Known, read


class Agreement(NamedTuple):
    """On which steps are slow, of those that all ranks completed."""

    by_any: int = 0
    """Steps that a rank by itself finds slow, and ..."""
    by_all: int = 0
    """... those of them that all do."""
    by_first: int = 0
    """Steps that rank 0 finds slow, and ..."""
    near: int = 0
    """... those of them that are whole on all ranks although no word of it reaches them."""

    def __add__(self, other: object) -> Agreement:
        assert isinstance(other, Agreement)
        return Agreement(*map(sum, zip(self, other, strict=True)))


class Thinned:
    """What is left of the records of one run's files."""

    def __init__(self, telemetry: Path) -> None:
        steps: dict[int, list[RankStep]] = defaultdict(list)
        for file in sorted(telemetry.glob("*.jsonl")):
            for record in read(file, Problems()):
                if isinstance(record, RankStep) and _is_complete(record):
                    steps[record.rank or 0].append(record)
        slow = {rank: _slow(of, SlowRule()) for rank, of in steps.items()}
        near = {rank: _slow(of, SlowRule(is_near=True)) for rank, of in steps.items()}
        every = {one.trace_id for of in steps.values() for one in of if not (one.step or 0) % EVERY}
        self._whole = every | slow.get(0, set())
        common = _in_all([{one.trace_id for one in of} for of in steps.values()])
        of_any = {trace for of in slow.values() for trace in of}
        first = common & slow.get(0, set())
        self.agreement = Agreement(
            len(common & of_any),
            len(common & _in_all(slow.values())),
            len(first),
            len(first & _in_all(near.values())),
        )

    def keep(self, records: Iterable[Known]) -> list[Known]:
        """Of some."""
        found: list[Known] = []
        for record in records:
            if isinstance(record, Collective):
                if record.error or record.state == semconv.STATE_IN_FLIGHT:
                    found.append(record)
            elif isinstance(record, RankStep) and _is_complete(record) and record.trace_id not in self._whole:
                found.append(record._replace(calls=()))
            else:
                found.append(record)
        return found


def _is_complete(step: RankStep) -> bool:
    return step.name == semconv.SPAN_RANK_STEP and not step.incomplete and step.step is not None


def _in_all(some: Collection[set[str]]) -> set[str]:
    return functools.reduce(set.intersection, some) if some else set()


def _slow(steps: list[RankStep], rule: SlowRule) -> set[str]:
    ordered = sorted(steps, key=lambda step: step.start)
    return {step.trace_id for step in ordered if rule.takes((step.end - step.start) / 1e9)}
