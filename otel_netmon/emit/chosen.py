"""What is traced of what happens: which steps, by whom, and what the user's sampler says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from otel_netmon import semconv
from otel_netmon.job import identity
from otel_netmon.job.cadence import Cadence

if TYPE_CHECKING:
    from otel_netmon.config import Config
    from otel_netmon.emit.intervals import Interval, Tie
    from otel_netmon.emit.spans import SpanWriter
    from otel_netmon.job.job import Job
    from otel_netmon.job.steps import StepMarks

_REMEMBERED: Final = 1024


class Chosen:
    """The choices of one job's rank: the same on all ranks for an interval. Used by one thread at a time."""

    def __init__(self, settings: Config, job: Job, spans: SpanWriter) -> None:
        self._spans = spans
        self._every = settings.trace_every
        self._cadence = Cadence(settings.trace_every, is_first=job.rank.rank == 0, store=job.store)
        self._verdicts: dict[Interval, bool] = {}
        ranks, rank = settings.trace_ranks, job.rank.rank
        self.has_calls = ranks is None or rank is None or rank in ranks
        """Whether this rank makes spans of single collectives."""

    def marks(self, marks: StepMarks) -> None:
        """Learn from what ended."""
        for step in marks.closed:
            self._cadence.closed(step)
        self._cadence.poll()

    def has(self, run_id: str, interval: Interval) -> bool:
        """Whether the trace of an interval is made. Raises what the sampler, which is the user's, does."""
        verdict = self._verdicts.get(interval)
        if verdict is None:
            verdict = (
                interval.kind != semconv.SPAN_TRAIN_STEP or self._cadence.takes(interval.number, interval.key)
            ) and self._spans.is_sampled(identity.trace_id(run_id, interval.key), interval.kind)
            self._verdicts[interval] = verdict
            if len(self._verdicts) > _REMEMBERED:
                del self._verdicts[next(iter(self._verdicts))]
        return verdict

    def has_tied(self, of_group: Tie, name: str) -> bool:
        """The same of a collective that is a trace of its own."""
        return not of_group.number % self._every and self._spans.is_sampled(of_group.trace_id, name)

    def forget(self, interval: Interval) -> None:
        """It is over."""
        self._verdicts.pop(interval, None)
