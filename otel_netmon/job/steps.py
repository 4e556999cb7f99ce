"""A training step that ended, and what is known of the one that is open: numbers, keys and moments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from otel_netmon.records import ResourceUsage

SETUP: Final = -1
"""Number of what came before the first step."""

_NOTHING_READ: Final = ResourceUsage()


class HeldUp(NamedTuple):
    """The garbage collector or a data loader held the process up for ``duration`` nanoseconds; ``start`` is of the
    monotonic clock, ``kind`` as in ``records.Pause``."""

    kind: str
    start: int
    duration: int


@dataclass(frozen=True)
class Step:
    """A step that ended: its number from 0, the last boundary in it, start and end in monotonic nanoseconds."""

    index: int
    """``SETUP`` for what came before the first step."""
    last_boundary: int
    start: int
    end: int
    complete: bool = True
    """False for the one that was open when the process, or the job, ended."""
    used: ResourceUsage = _NOTHING_READ
    """What the process used in it."""
    key: str = ""
    """What ties it to the same step of other ranks: see ``StepMarks``."""
    pauses: tuple[HeldUp, ...] = ()
    """The longest ones that began in it."""


class StepMarks(NamedTuple):
    """What ``StepTracker`` knows now.

    ``open_key`` names the open step alike on all ranks: by how many collectives the ranks of the job had begun
    together when it started, and how many steps had started since then. A step's number is this rank's own count,
    and shifts when one rank alone does a step more or less (uneven inputs, a skipped update).

    An event of boundary t belongs to the first step with ``last_boundary > t``; where there is none, to the open
    step if ``t <= settled``. Beyond that an optimizer has stepped that may have been the last of its cycle or not:
    ask again later. Before the first step, ``t < setup_until`` is setup, whatever comes.
    """

    closed: list[Step]
    """Those that ended since the last call."""
    open_step: int = 0
    settled: int = -1
    open_key: str = ""
    setup_until: int = 0
