"""What a summary of a run says, as plain frozen values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from otel_netmon.analysis.nics import Nic
    from otel_netmon.analysis.waiting import Waiting

SCHEMA: Final = 1
"""Version of ``Summary.to_dict``; it changes when a key changes its meaning or goes."""


@dataclass(frozen=True)
class Steps:
    """Training steps, their times in seconds, from rank 0's ``train_step`` spans, or else ``rank_step`` spans."""

    count: int
    span: str
    median: float | None
    p99: float | None


@dataclass(frozen=True)
class Operation:
    """One operation on one group, over all ranks. Seconds, bytes, bytes per second.

    ``calls`` and ``size`` count every rank's call and buffer. Percentiles and bandwidths are of calls with a true
    duration, and ``None`` where there was none; bandwidths are means weighted by time.
    """

    operation: str
    group: str
    backend: str
    group_size: int | None
    ranks: int
    calls: int
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
    """Collectives that the metrics counted and that have no span: the SDK's queue was full, or it samples."""
    truncated_lines: int
    corrupt_lines: int
    bad_records: int
    skipped_files: int


@dataclass(frozen=True)
class Summary:
    """All of it. Ranks are those that sent a span; ``world_size`` is what they say it should be."""

    ranks: tuple[int, ...]
    world_size: int | None
    runs: tuple[str, ...]
    steps: Steps | None
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
