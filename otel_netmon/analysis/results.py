"""What a summary of a run says, as plain frozen values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from otel_netmon.analysis.apart import Apart
    from otel_netmon.analysis.nics import NicTotal
    from otel_netmon.analysis.waiting import Waiting
    from otel_netmon.diagnosis.finding import Finding

SCHEMA: Final = 2
"""Version of ``Summary.to_dict``; it changes when a key changes its meaning or goes."""


@dataclass(frozen=True)
class StepSummary:
    """Training steps, their times in seconds: rank 0's, or else those of all ranks."""

    count: int
    """All of them: by the metrics, where those count more than there are records."""
    traced: int
    """Those with a span."""
    numbered: int | None
    """As many as the highest number of a step says that there were at least."""
    span: str | None
    """``train_step`` where rank 0's are told by such spans, else ``rank_step``."""
    median: float | None
    p99: float | None
    timed: int = 0
    """Those that the times are of: steps with a span or, where they were not sampled, a log event."""


@dataclass(frozen=True)
class OperationSummary:
    """One operation on one group, over all ranks. Seconds, bytes, bytes per second.

    ``calls`` and ``size`` count every rank's call and buffer, by the metrics where those count more than there are
    spans, and calls in steps that were not sampled; ``spans`` are the calls that have one. Percentiles are of all
    calls of which the true duration is known, bandwidths of those with a span, as means weighted by time; ``None``
    where there was none. ``size`` is ``None`` where no metric tells the bytes of calls without a span.
    """

    operation: str
    group: str
    backend: str
    group_size: int | None
    ranks: int
    calls: int
    spans: int
    failed: int
    unfinished: int
    size: int | None
    p50: float | None
    p99: float | None
    algbw: float | None
    busbw: float | None
    timed: int = 0
    """Calls that the percentiles are of."""


@dataclass(frozen=True)
class Alive:
    """A rank of which there is no span, and what it was at when it last said that it lives: its open step, and its
    oldest collective in flight, since ``age`` seconds; ``None`` where there was none."""

    rank: int
    step: int | None
    operation: str | None
    group: str | None
    age: float | None


@dataclass(frozen=True)
class Losses:
    """What is missing. ``None`` where nothing reports it, which is not 0."""

    dropped: dict[str, int] | None
    """Events lost by the capture engine, by reason."""
    missing_spans: int | None
    """Collectives that have no span although they were sampled: the SDK's queue was full, say. Without log events
    and without metrics of steps, also those that were not sampled: then the two cannot be told apart."""
    sampled_out: int | None
    """Collectives that have no span because their step, or their rank, was not sampled."""
    truncated_lines: int
    corrupt_lines: int
    bad_records: int
    skipped_files: int


@dataclass(frozen=True)
class Diagnosis:
    """Who is to blame in one run, the costliest first, by ``ranks`` ranks and ``steps`` steps that all took."""

    run_id: str | None
    ranks: int
    steps: int
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {**asdict(self), "findings": [each.to_dict() for each in self.findings]}


@dataclass(frozen=True)
class Summary:
    """All of it. Ranks are those that sent a span, or the log event of a step; ``world_size`` is what they say it
    should be."""

    ranks: tuple[int, ...]
    silent_ranks: tuple[int, ...]
    """Those that sent metrics of their training and nothing else."""
    alive: tuple[Alive, ...]
    """Those that sent heartbeats, or that a collective hangs, and no span."""
    world_size: int | None
    runs: tuple[str, ...]
    steps: StepSummary | None
    apart: Apart | None
    """Ranks that count their steps differently at the end."""
    operations: tuple[OperationSummary, ...]
    waiting: Waiting | None
    nics: tuple[NicTotal, ...]
    diagnoses: tuple[Diagnosis, ...]
    """Of each run."""
    losses: Losses
    folder: str
    files: int
    size: int

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON; units as in the classes' docstrings."""
        diagnoses = [each.to_dict() for each in self.diagnoses]
        return {"schema": SCHEMA, **asdict(self), "diagnoses": diagnoses}
