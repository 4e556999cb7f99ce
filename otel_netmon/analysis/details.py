"""What the pictures of a run need beyond its summary, as plain frozen values.

All of one run, that with the most steps in the folder; without step 0 and what came before it, as in ``waiting``.
Times are seconds. ``None`` and NaN are not known, never 0.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class RankTime(NamedTuple):
    """What the time of one rank's steps went into; the parts add up to ``total``.

    ``own`` is what is neither of the others: computing, and all that is not measured. Data loading and garbage
    collection count outside of collectives only. Waiting is that for ranks that come late (see ``lateness``),
    the rest of the time in collectives is transfer; ``unsplit`` where no collective of the step was seen on all
    its ranks, ``unknown`` where it is not known whether a collective was in flight at all.
    """

    rank: int
    steps: int
    total: float
    own: float
    data: float
    gc: float
    transfer: float
    waiting: float
    unsplit: float
    unknown: float
    run_queue: float | None
    """Of all that: ready to run, and waiting for a CPU."""


class Event(NamedTuple):
    """Something else that happened in a step: ``gc``, ``data`` (the longest of a rank) or ``verdict`` (live)."""

    step: int
    kind: str
    what: str
    rank: int | None = None
    seconds: float | None = None


class Drawn(NamedTuple):
    """A collective of one rank; ``start`` from the left edge of the picture, ``waited`` from there on."""

    operation: str
    group: str
    sequence: int
    size: float
    start: float
    seconds: float
    waited: float


class InsideRank(NamedTuple):
    """A rank in one step. ``start`` from the left edge; pauses are kind, start and duration."""

    rank: int
    start: float
    seconds: float
    waited: float
    collectives: tuple[Drawn, ...]
    pauses: tuple[tuple[str, float, float], ...]


class InsideStep(NamedTuple):
    """One step, rows aligned where they left the collective ``aligned``; ``None``: at the starts of the step."""

    step: int
    why: str
    aligned: str | None
    ranks: tuple[InsideRank, ...]
    left_out: int = 0
    """The shortest collectives, where there are too many to draw."""


class Bandwidth(NamedTuple):
    """Bus bandwidth of one operation and size, By/s: of the rank that came last, so without waiting (10th, 50th
    and 90th percentile), and the median as the ranks saw it."""

    operation: str
    size: float
    times: int
    low: float
    middle: float
    high: float
    called: float


class Link(NamedTuple):
    """What moved from one host to another over the training's connections, as the sender saw it."""

    sender: str
    receiver: str
    sent: int
    rtt: float | None
    """The median of the readings."""
    shortest: float | None
    segments: int
    retransmits: int
    rate: float | None
    """By/s of the time with something to send."""


class Overlap(NamedTuple):
    """What a rank did while a collective was in flight, over its steps; the last three add up to ``inside``.

    ``hidden``: until its last asynchronous collective was issued it was not blocked, so it worked. ``waited``:
    blocked in a call or in ``Work.wait``. ``rest``: not told apart, for waits within C++ (DDP's) are not seen.
    """

    rank: int
    steps: int
    inside: float
    hidden: float
    waited: float
    rest: float


class LastCall(NamedTuple):
    """The first collective of a rank on a group that did not end well, and for how long it was in it; or its last
    one, where all did."""

    group: str
    rank: int
    sequence: int
    operation: str
    seconds: float | None
    error: str | None
    is_over: bool


@dataclass(frozen=True)
class Details:
    """All of it. Columns are the steps in the order of their numbers."""

    run_id: str | None = None
    services: tuple[str, ...] = ()
    hosts: Mapping[int, str] = field(default_factory=dict)
    """By rank, of each of which anything is known."""
    steps: tuple[int, ...] = ()
    step_times: array[float] = field(default_factory=lambda: array("d"))
    """Of the rank that took longest."""
    lateness: Mapping[int, array[float]] = field(default_factory=dict)
    """By rank, a value for each step: see ``lateness``."""
    times: tuple[RankTime, ...] = ()
    events: tuple[Event, ...] = ()
    inside: tuple[InsideStep, ...] = ()
    bandwidths: tuple[Bandwidth, ...] = ()
    links: tuple[Link, ...] = ()
    overlaps: tuple[Overlap, ...] = ()
    last_calls: tuple[LastCall, ...] = ()
    """Of groups on which something hung or failed."""
    by_sums: int = 0
    """Steps whose lateness is made of sums, see ``lateness``."""
    unknown_overlaps: int = 0
    """Steps of ranks of which no overlap is known: no times of collectives, or more of them than are packed."""
