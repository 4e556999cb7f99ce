"""How ranks end, as records: what their launcher says of it. See ``records`` for what a record is."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from otel_netmon import semconv
from otel_netmon.records import Source


class RankExit(NamedTuple):
    """How the process of a rank ended, as its parent saw it: a log event of the parent's, whose host is the
    rank's. With neither code nor signal it ended, and how is not known."""

    pid: Annotated[int, semconv.RANK_PID]
    rank: Annotated[int | None, semconv.RANK] = None
    local_rank: Annotated[int | None, semconv.LOCAL_RANK] = None
    world_size: Annotated[int | None, semconv.WORLD_SIZE] = None
    code: Annotated[int | None, semconv.EXIT_CODE] = None
    signal: Annotated[int | None, semconv.EXIT_SIGNAL] = None
    time: int = 0
    source: Source | None = None
    """The parent."""


class LastCall(NamedTuple):
    """One of the last collectives of a rank. µs: from the call to the record's time, and its duration, ``None``
    where it is not known to have ended."""

    operation: str
    group: str
    sequence: int | None
    size: int
    age: int
    duration: int | None
    error: str | None


class LastCalls(NamedTuple):
    """What a rank was at when its process ended before it could export that: read by whoever outlived it, a log
    event of the reader's, whose host is the rank's. Calls that had been exported may be among them."""

    pid: Annotated[int, semconv.RANK_PID]
    run_id: Annotated[str | None, semconv.RUN_ID] = None
    rank: Annotated[int | None, semconv.RANK] = None
    local_rank: Annotated[int | None, semconv.LOCAL_RANK] = None
    world_size: Annotated[int | None, semconv.WORLD_SIZE] = None
    step: Annotated[int | None, semconv.STEP] = None
    """The one that was open."""
    step_age: Annotated[float | None, semconv.HEARTBEAT_AGE] = None
    calls: Annotated[tuple[LastCall, ...], semconv.LAST_CALLS] = ()
    time: int = 0
    """The rank's last sign of life."""
    source: Source | None = None
    """The reader."""
