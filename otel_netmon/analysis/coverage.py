"""Which collectives have no span, and why: they were not sampled, or they are lost.

A rank's record of a step, setup or window says how many collectives were in it, and whether spans were made of
them: so what is missing was not sampled, or is lost. That is exact. The rest is for records that are not here
themselves, because log events were not exported, or are lost. Then the metrics tell, which count all. What another
rank's record says of a step holds for those that have none. Where a process counted more steps than anybody has a
record of, they were not sampled, and what is missing besides was in them.

Collectives may have traces of their own, apart from all steps (between processes that have no steps in common).
Where a process has such, its steps' counts say nothing, because they count those too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from otel_netmon import semconv
from otel_netmon.analysis.counted import Amount, Key
from otel_netmon.records import RankStep

_ON_RANK = frozenset(semconv.EVENT_OF_PERIOD)


class Coverage:
    """Takes records; the sums at the end. Memory: some 100 bytes for each rank's step."""

    def __init__(self) -> None:
        self.spans: dict[str, Counter[int]] = defaultdict(Counter)
        """By process and trace, its collectives' spans."""
        self._above: set[int] = set()
        """Traces of steps, setups and windows."""
        self._periods: dict[str, dict[int, tuple[int | None, bool | None]]] = defaultdict(dict)
        """By process and trace, what it says of how many collectives were in it, and whether they were sampled."""
        self._said: dict[tuple[int | None, bool | None], tuple[int | None, bool | None]] = {}
        """What they say, once each: one object for many steps."""
        self._complete: Counter[str] = Counter()
        self._run_of: dict[str, str | None] = {}
        self._traces: dict[str | None, dict[int, tuple[int, bool]]] = defaultdict(dict)
        """By run, the traces of its steps: the most collectives of a rank in each, and whether one was sampled."""
        self._highest: dict[str | None, int] = {}

    def period(self, record: RankStep, instance: str, trace: int) -> None:
        """A step, setup or window, of the job or on one rank."""
        run, said = record.run_id, record.collective_count
        self._run_of[instance] = run
        self._above.add(trace)
        is_complete = record.incomplete is not True
        if record.step is not None:
            most, sampled = self._traces[run].get(trace, (0, False))
            self._traces[run][trace] = max(said or 0, most), sampled or record.sampled is not False
            if is_complete:
                self._highest[run] = max(record.step, self._highest.get(run, 0))
        if record.name in _ON_RANK:
            says = said, record.sampled
            self._periods[instance][trace] = self._said.setdefault(says, says)
        if record.name == semconv.SPAN_RANK_STEP:
            self._complete[instance] += is_complete

    def traced(self) -> set[int]:
        """Traces of steps with a span."""
        return {trace for of_run in self._traces.values() for trace, (_, sampled) in of_run.items() if sampled}

    def numbered(self) -> int | None:
        """How many steps the numbers of those with a record say that there were at least."""
        return sum(highest + 1 for highest in self._highest.values()) if self._highest else None

    def steps(self, counted: Mapping[str, int]) -> int | None:
        """Steps of all runs, each as its rank with the most counted them; ``None`` where nobody counted.

        With several runs in a folder, the run of a process without a record is not known: it says nothing.
        """
        of_run: dict[str | None, int] = {}
        for instance, steps in counted.items():
            run = self._run(instance)
            of_run[run] = max(steps, of_run.get(run, 0))
        if len(of_run) > 1:
            of_run.pop(None, None)
        return sum(of_run.values()) if of_run else None

    def is_apart(self, instance: str) -> bool:
        """Whether some of its collectives are in traces of their own."""
        return not self.spans[instance].keys() <= self._above

    def of(
        self,
        ended: Mapping[str, Mapping[Key, int]],
        counted: Mapping[tuple[str, Key | None], Amount],
        steps: Mapping[str, int],
    ) -> tuple[int | None, int | None]:
        """Collectives that are lost, and those that were not sampled; ``None`` where nothing tells.

        ``ended``: by process, those with a span. Where there is no span of ours at all, traces went elsewhere, or
        nothing was sampled.
        """
        if not ended and not self._run_of:
            return None, None
        missing = _without_span(ended, counted)
        saying = {each for each, of in self._periods.items() if any(said is not None for said, _ in of.values())}
        # Steps that a process counted and that neither it nor another rank has a record of.
        unseen = {
            each: count - self._complete[each] - len(self._hidden(each, count)) for each, count in steps.items()
        }
        lost = sampled_out = 0
        for instance in saying | missing.keys():
            if self.is_apart(instance):
                known, has_unseen = [0, 0], max(unseen.values(), default=0) > 0
            else:
                known, has_unseen = self._known(instance, steps.get(instance, 0)), unseen.get(instance, 0) > 0
            known[has_unseen] += max(0, missing[instance] - sum(known))
            lost += known[0]
            sampled_out += known[1]
        tells = (missing and steps) or self._has_all_records()
        return (lost if saying or missing else None), (sampled_out if tells else None)

    def _has_all_records(self) -> bool:
        """Whether records say which collectives were sampled, and there are those of the steps that were not."""
        flags = {sampled for of in self._periods.values() for _, sampled in of.values()}
        return False in flags or (
            flags == {True} and sum(map(len, self._traces.values())) >= (self.numbered() or 0)
        )

    def _run(self, instance: str) -> str | None:
        """Of a process without a record, the only run that there is."""
        only = next(iter(self._traces)) if len(self._traces) == 1 else None
        return self._run_of.get(instance, only)

    def _hidden(self, instance: str, steps: int) -> list[int]:
        """Traces of a process's steps of which only other ranks have a record.

        No more than it counted: a rank that ended early did not take part in the last ones.
        """
        traces = self._traces.get(self._run(instance), {})
        others = sorted(traces.keys() - self._periods[instance].keys())
        return others[: max(0, steps - self._complete[instance])]

    def _known(self, instance: str, steps: int) -> list[int]:
        """Collectives of a process that records show to be lost, and not to have been sampled."""
        periods, spans = self._periods[instance], self.spans[instance]
        traces = self._traces.get(self._run(instance), {})
        is_chosen = not periods or any(sampled is not False for _, sampled in periods.values())
        missing = [0, 0]
        for trace, (said, sampled) in periods.items():
            missing[sampled is False] += max(0, (said or 0) - spans[trace])
        for trace in self._hidden(instance, steps):
            most, is_sampled = traces[trace]
            missing[not (is_sampled and is_chosen)] += max(0, most - spans[trace])
        return missing


def _without_span(
    ended: Mapping[str, Mapping[Key, int]], counted: Mapping[tuple[str, Key | None], Amount]
) -> Counter[str]:
    """By process, collectives that ended, as its metrics say, and are in none of its spans."""
    missing: Counter[str] = Counter()
    for (instance, key), amount in counted.items():
        own = ended.get(instance, {})
        # Without a key they were counted without a name: as there are too many to name each.
        seen = own.get(key, 0) if key else sum(own[k] for k in own if (instance, k) not in counted)
        missing[instance] += max(0, amount.calls - seen)
    return missing
