"""What a summary of a run says, as plain frozen values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from otel_netmon.analysis.apart import Apart
    from otel_netmon.analysis.nics import Nic
    from otel_netmon.analysis.waiting import Waiting

SCHEMA: Final = 1
"""Version of ``Summary.to_dict``; it changes when a key changes its meaning or goes."""


@dataclass(frozen=True)
class Steps:
    """Training steps, their times in seconds, from rank 0's ``train_step`` spans, or else ``rank_step`` spans."""

    count: int
    """All of them: by the metrics, where those count more than there are traces."""
    traced: int
    """Those with such a span, which the times are of."""
    numbered: int | None
    """As many as the highest number of a step says that there were at least."""
    span: str | None
    median: float | None
    p99: float | None


@dataclass(frozen=True)
class Operation:
    """One operation on one group, over all ranks. Seconds, bytes, bytes per second.

    ``calls`` and ``size`` count every rank's call and buffer, by the metrics where those count more than there are
    spans; ``spans`` are the calls that have one. Percentiles and bandwidths are of spans with a true duration, and
    ``None`` where there was none; bandwidths are means weighted by time.
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
    size: int
    p50: float | None
    p99: float | None
    algbw: float | None
    busbw: float | None


@dataclass(frozen=True)
class Losses:
    """What is missing. ``None`` where nothing reports it, which is not 0."""

    dropped: dict[str, int] | None
    """Events lost by the capture engine, by reason."""
    missing_spans: int | None
    """Collectives that have no span although their step has: the SDK's queue was full, say. Without the metrics of
    steps, also those that were not sampled: then the two cannot be told apart."""
    sampled_out: int | None
    """Collectives that the metrics counted and that have no span because their step was not sampled."""
    truncated_lines: int
    corrupt_lines: int
    bad_records: int
    skipped_files: int


@dataclass(frozen=True)
class Summary:
    """All of it. Ranks are those that sent a span; ``world_size`` is what they say it should be."""

    ranks: tuple[int, ...]
    silent_ranks: tuple[int, ...]
    """Those that sent metrics of their training and no span."""
    world_size: int | None
    runs: tuple[str, ...]
    steps: Steps | None
    apart: Apart | None
    """Ranks that count their steps differently at the end."""
    operations: tuple[Operation, ...]
    waiting: Waiting | None
    nics: tuple[Nic, ...]
    losses: Losses
    folder: str
    files: int
    size: int

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON; units as in the classes' docstrings."""
        return {"schema": SCHEMA, **asdict(self)}
