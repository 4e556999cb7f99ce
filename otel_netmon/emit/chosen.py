"""What is traced of what happens: which steps, by whom, and what the user's sampler says.

``OTEL_NETMON_VOLUME`` decides. ``full``: every step, and a span for each collective of each rank. ``steps``, from
more than 64 ranks on: what each rank did in each step always goes out, but traces are for every 100th step, for
slow ones and for those in which a collective failed, and a trace has some 5,000 spans.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from otel_netmon import semconv
from otel_netmon.job import identity
from otel_netmon.job.cadence import Cadence

if TYPE_CHECKING:
    from otel_netmon.config import Config
    from otel_netmon.emit.intervals import Interval, Tie
    from otel_netmon.emit.spans import SpanWriter
    from otel_netmon.job.job import Job
    from otel_netmon.job.roles import RankIdentity
    from otel_netmon.job.steps import StepMarks

FULL_UP_TO: Final = 64
"""Ranks."""
EVERY: Final = 100
"""Of how many steps one is traced, if not each is."""
MOST_SPANS: Final = 5000
"""Of a trace; a user interface shows no more, and a backend takes no more than some ten times as many."""
_REMEMBERED: Final = 1024


def is_full(settings: Config, rank: RankIdentity) -> bool:
    """Whether each collective of this job is a span."""
    return settings.volume == "full" or (
        settings.volume == "auto" and (rank.rank is None or (rank.world_size or 0) <= FULL_UP_TO)
    )


def rank_stride(world_size: int) -> int:
    """Of how many ranks of a large job one has a span for its part of a step: half of a trace is for those."""
    return -(-world_size * 2 // MOST_SPANS)


def call_stride(world_size: int, calls: int) -> int | None:
    """Of how many ranks one makes spans of the so many collectives of a step, with what the ranks' parts leave: it
    is one that has a span for its part. ``None``: there are too many of them."""
    if calls > MOST_SPANS:
        return None
    of_ranks = rank_stride(world_size)
    parts = -(-world_size // of_ranks)
    return of_ranks * -(-parts // max(1, (MOST_SPANS - 1 - parts) // max(1, calls)))


class _Verdict(NamedTuple):
    """On one interval."""

    is_traced: bool
    has_calls: bool
    has_failed: bool = False


class Chosen:
    """The choices of one job's rank: the same on all ranks for an interval. Used by one thread at a time."""

    def __init__(self, settings: Config, job: Job, spans: SpanWriter) -> None:
        self._spans = spans
        self._rank, self._world_size = job.rank.rank, job.rank.world_size or 1
        self.is_full = is_full(settings, job.rank)
        """Whether steps are traced that nothing sets apart."""
        self._every = settings.trace_every or (1 if self.is_full else EVERY)
        self._cadence = Cadence(self._every, is_first=job.rank.rank == 0, store=job.store)
        self._verdicts: dict[Interval, _Verdict] = {}
        self._ranks = settings.trace_ranks
        self._calls = 0
        """Collectives of a step of this rank's."""

    def _makes_calls(self) -> bool:
        if self._rank is None:
            return True
        if self._ranks is not None:
            return self._rank in self._ranks
        if self.is_full:
            return True
        stride = call_stride(self._world_size, self._calls) if self._calls else None
        return stride is not None and self._rank % stride == 0

    @property
    def has_rank(self) -> bool:
        """Whether this rank's part of a step is a span of its trace."""
        return self._rank is None or self.is_full or self._rank % rank_stride(self._world_size) == 0

    @property
    def last_calls(self) -> int:
        """How many of the last collectives of a step in which one fails are spans, if the step had none so far."""
        return max(1, MOST_SPANS // self._world_size)

    def marks(self, marks: StepMarks) -> None:
        """Learn from what ended."""
        for step in marks.closed:
            self._cadence.closed(step)
        self._cadence.poll()

    def learn(self, calls: int) -> None:
        """A step of this rank's had so many collectives."""
        self._calls = calls

    def has(self, run_id: str, interval: Interval) -> bool:
        """Whether the trace of an interval is made. Raises what the sampler, which is the user's, does."""
        return self._verdict(run_id, interval).is_traced

    def has_calls(self, run_id: str, interval: Interval) -> bool:
        """Whether this rank makes spans of all collectives of an interval. Raises as ``has`` does."""
        return self._verdict(run_id, interval).has_calls

    def _verdict(self, run_id: str, interval: Interval) -> _Verdict:
        verdict = self._verdicts.get(interval)
        if verdict is None:
            is_traced = self._takes(interval) and self.is_sampled(run_id, interval)
            verdict = self._verdicts[interval] = _Verdict(is_traced, is_traced and self._makes_calls())
            if len(self._verdicts) > _REMEMBERED:
                del self._verdicts[next(iter(self._verdicts))]
        return verdict

    def _takes(self, interval: Interval) -> bool:
        if interval.kind == semconv.SPAN_TRAIN_STEP:
            return self._cadence.takes(interval.number, interval.key)
        return interval.kind != semconv.SPAN_WINDOW or self.is_full or not interval.number % self._every

    def is_sampled(self, run_id: str, interval: Interval) -> bool:
        """What the user's sampler says to the trace of an interval."""
        return self._spans.is_sampled(identity.trace_id(run_id, interval.key), interval.kind)

    def choose(self, run_id: str, interval: Interval) -> bool:
        """A collective failed in this one: whether it is traced, if it was not so far. Raises as ``has`` does."""
        is_traced = self.has(run_id, interval) or self.is_sampled(run_id, interval)
        self._verdicts[interval] = _Verdict(is_traced, False, has_failed=True)
        return is_traced

    def has_failed(self, interval: Interval) -> bool:
        """Whether it is traced because a collective failed in it."""
        verdict = self._verdicts.get(interval)
        return verdict is not None and verdict.has_failed

    def has_tied(self, of_group: Tie, name: str) -> bool:
        """The same of a collective that is a trace of its own."""
        return not of_group.number % self._every and self._spans.is_sampled(of_group.trace_id, name)

    def forget(self, interval: Interval) -> None:
        """It is over."""
        self._verdicts.pop(interval, None)
