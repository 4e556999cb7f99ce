"""Which steps and collectives have no span, and why: they were not sampled, or they are lost.

What is known: the metrics count all; a rank's step says how many collectives it had; a step that one rank traced
was sampled on all of them. So what is missing in a step that has a span is lost, and so is a rank's part of a step
that others traced. Where a process counted more steps than it traced, and nobody traced those, they were not
sampled, and what is missing besides was in them.

Collectives may have traces of their own, apart from all steps (between processes that have no steps in common).
Where a process has such, its steps' counts say nothing, because they count those too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from otel_netmon import semconv
from otel_netmon.analysis.counted import Amount, Key
from otel_netmon.analysis.reader import Span, whole


class Coverage:
    """Takes spans; the sums at the end. Memory: some 300 bytes for each rank's step."""

    def __init__(self) -> None:
        self._in: dict[str, Counter[tuple[int, int | None]]] = defaultdict(Counter)
        """By process, its collectives' spans; by trace and rank."""
        self._above: set[int] = set()
        """Traces of steps, setups and windows."""
        self._periods: dict[str, dict[tuple[int, int | None], int | None]] = defaultdict(dict)
        """By process, what its ranks' spans say of how many collectives were in them; by trace and rank."""
        self._steps: dict[str, set[int]] = defaultdict(set)
        """By process, the traces of its steps."""
        self._complete: Counter[str] = Counter()
        self._run_of: dict[str, str | None] = {}
        self._traces: dict[str | None, dict[int, int]] = defaultdict(dict)
        """By run, the traces of its steps and the most collectives that a rank had in each."""
        self._highest: dict[str | None, int] = {}

    def collective(self, instance: str, trace: int, rank: int | None) -> None:
        """A collective's span."""
        self._in[instance][trace, rank] += 1

    def period(self, span: Span, trace: int, rank: int | None) -> None:
        """A step, setup or window, of the job or on one rank."""
        get, instance = span.attributes.get, span.source.instance
        run_id, step, said = (
            get(semconv.RUN_ID),
            whole(get(semconv.STEP)),
            whole(get(semconv.STEP_COLLECTIVE_COUNT)),
        )
        self._run_of[instance] = run = run_id if isinstance(run_id, str) else None
        self._above.add(trace)
        is_complete = get(semconv.STEP_INCOMPLETE) is not True
        if step is not None:
            self._traces[run][trace] = max(said or 0, self._traces[run].get(trace, 0))
            if is_complete:
                self._highest[run] = max(step, self._highest.get(run, 0))
        if span.name in (semconv.SPAN_RANK_STEP, semconv.SPAN_RANK_SETUP, semconv.SPAN_RANK_WINDOW):
            self._periods[instance][trace, rank] = said
        if span.name == semconv.SPAN_RANK_STEP:
            self._steps[instance].add(trace)
            self._complete[instance] += is_complete

    def numbered(self) -> int | None:
        """How many steps the numbers of those with a span say that there were at least."""
        return sum(highest + 1 for highest in self._highest.values()) if self._highest else None

    def steps(self, counted: Mapping[str, int]) -> int | None:
        """Steps of all runs, each as its rank with the most counted them; ``None`` where nobody counted.

        With several runs in a folder a process without a span belongs to one that is not known, and says nothing.
        """
        of_run: dict[str | None, int] = {}
        for instance, steps in counted.items():
            run = self._run(instance)
            of_run[run] = max(steps, of_run.get(run, 0))
        if len(of_run) > 1:
            of_run.pop(None, None)
        return sum(of_run.values()) if of_run else None

    def of(
        self,
        spans: Mapping[Key, Mapping[str, Amount]],
        counted: Mapping[tuple[str, Key | None], Amount],
        steps: Mapping[str, int],
    ) -> tuple[int | None, int | None]:
        """Collectives that are lost, and those that were not sampled; ``None`` where nothing tells.

        Where there is no span of ours at all, traces went elsewhere, or nothing was sampled.
        """
        missing = _without_span(spans, counted)
        saying = {
            instance for instance, said in self._periods.items() if any(n is not None for n in said.values())
        }
        if not spans and not self._run_of:
            return None, None
        # Steps that a process counted, that it has no span of, and that no other rank traced either.
        untraced = {
            instance: count - self._complete[instance] - len(self._hidden(instance, count))
            for instance, count in steps.items()
        }
        samples = any(count > 0 for count in untraced.values())
        lost = sampled_out = 0
        for instance in saying | missing.keys():
            apart = any(trace not in self._above for trace, _ in self._in.get(instance, ()))
            known = 0 if apart else self._lost(instance, steps.get(instance, 0))
            is_sampled = samples if apart else untraced.get(instance, 0) > 0
            unsampled = max(0, missing.get(instance, 0) - known) if is_sampled else 0
            sampled_out += unsampled
            lost += max(known, missing.get(instance, 0) - unsampled)
        return (lost if saying or missing else None), (sampled_out if missing and steps else None)

    def _run(self, instance: str) -> str | None:
        """Of a process without a span, the only run that there is."""
        only = next(iter(self._traces)) if len(self._traces) == 1 else None
        return self._run_of.get(instance, only)

    def _hidden(self, instance: str, steps: int) -> list[int]:
        """Traces of a process's steps in which only other ranks have a span.

        No more than it counted: a rank that ended early did not take part in the last ones.
        """
        traces = self._traces.get(self._run(instance), {})
        others = sorted(traces.keys() - self._steps.get(instance, set()))
        return others[: max(0, steps - self._complete[instance])]

    def _lost(self, instance: str, steps: int) -> int:
        """Collectives of a process that spans show to be lost: by what its steps say, and those of other ranks.

        In a step that only others traced it had as many as they had: the ranks of a step call the same.
        """
        periods, spans = self._periods.get(instance, {}), self._in.get(instance, Counter())
        traces = self._traces.get(self._run(instance), {})
        rank = next((rank for _, rank in periods), None)
        lost = sum(max(0, (said or 0) - spans[at]) for at, said in periods.items())
        return lost + sum(max(0, traces[trace] - spans[trace, rank]) for trace in self._hidden(instance, steps))


def _without_span(
    spans: Mapping[Key, Mapping[str, Amount]], counted: Mapping[tuple[str, Key | None], Amount]
) -> dict[str, int]:
    """By process, collectives that ended, as its metrics say, and are in none of its spans."""
    missing: dict[str, int] = {}
    for (instance, key), amount in counted.items():
        if key is not None:
            more = amount.calls - _ended(spans, key, instance)
        else:  # counted without its name: as there are too many to name each
            more = amount.calls - sum(_ended(spans, k, instance) for k in spans if (instance, k) not in counted)
        missing[instance] = missing.get(instance, 0) + max(0, more)
    return missing


def _ended(spans: Mapping[Key, Mapping[str, Amount]], key: Key, instance: str) -> int:
    amount = spans.get(key, {}).get(instance)
    return amount.calls - amount.unfinished if amount is not None else 0
