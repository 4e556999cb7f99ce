"""What is known of a run, in plain frozen values: the same wherever it is written, read or asked about.

``schema`` says of each field how OpenTelemetry and SQL call it. ``None`` is *not known*, never 0. Times are
nanoseconds since the epoch and durations seconds, where a field does not say otherwise. The fields that are on the
wire as attributes come first, in the order of the schema; those behind them are the span's, log record's or data
point's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

Value = str | int | float | bool


class Source(NamedTuple):
    """The process that a record comes from, by its resource."""

    instance: str
    """``service.instance.id``, or what comes nearest to it."""
    host: str | None = None
    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None
    service: str | None = None


class Collective(NamedTuple):
    """One call of one collective on one rank: a span."""

    operation: str
    group: str | None = None
    backend: str | None = None
    group_size: int | None = None
    group_rank: int | None = None
    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None
    clock: str | None = None
    size: int | None = None
    sequence: int | None = None
    dtype: str | None = None
    element_count: int | None = None
    reduce_op: str | None = None
    is_async: bool | None = None
    error: str | None = None
    state: str | None = None
    device_duration: float | None = None
    device_bound: float | None = None
    algbw: float | None = None
    busbw: float | None = None
    start: int = 0
    end: int = 0
    trace_id: str = ""
    span_id: str = ""
    parent_id: str | None = None
    source: Source | None = None


class GroupUse(NamedTuple):
    """What a rank did on one process group in a step. Bytes; µs, the calls' durations summed."""

    group: str
    calls: int
    size: int
    duration: int | None
    last_sequence: int | None


class Call(NamedTuple):
    """One collective of a step. µs: start from that of the step, and duration where it is known."""

    operation: str
    group: str
    start: int
    duration: int | None


class Pause(NamedTuple):
    """The garbage collector (``gc``) or a data loader (``data``) held the process up. µs from the step's start."""

    kind: str
    start: int
    duration: int


class RankStep(NamedTuple):
    """One step on one rank, or the setup before the first, or a window of the clock: a span, or, where the trace
    is not sampled, a log event of the same fields. Rank 0 also makes the root of a trace, which has no sums."""

    name: str
    """That of the span: ``rank_step``, ``train_step``, …"""
    run_id: str | None = None
    attempt: int | None = None
    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None
    step: int | None = None
    incomplete: bool | None = None
    sampled: bool | None = None
    first_collective: float | None = None
    collective_count: int | None = None
    collective_size: int | None = None
    collective_time: float | None = None
    wait_time: float | None = None
    gc_time: float | None = None
    data_time: float | None = None
    cpu_time: float | None = None
    run_queue_time: float | None = None
    switches_voluntary: int | None = None
    switches_involuntary: int | None = None
    groups: tuple[GroupUse, ...] = ()
    calls: tuple[Call, ...] = ()
    """At most the first ``MOST_CALLS``."""
    pauses: tuple[Pause, ...] = ()
    """The longest ones of at least 1 ms."""
    start: int = 0
    end: int = 0
    trace_id: str = ""
    span_id: str = ""
    parent_id: str | None = None
    source: Source | None = None


class PeerTraffic(NamedTuple):
    """What moved between this rank and ``peer`` in the ``interval`` seconds before ``at``, over all connections:
    an event of a rank's span, or a log event.

    Times in seconds, bytes in By, ``delivery_rate`` in By/s; ``rtt`` is the longest smoothed round-trip time of
    those connections that moved, ``min_rtt`` the shortest that the kernel remembers, ``delivery_rate`` that of the
    fastest. ``backoff`` counts doublings of the retransmission timeout; ``unacked`` and ``unread`` are what the
    peer has not acknowledged and this process has not read.
    """

    peer: int
    host: str | None
    interval: float
    connections: int
    bytes_sent: int | None
    bytes_received: int | None
    segments_sent: int | None
    retransmits: int
    rtt: float | None
    rtt_variation: float | None
    min_rtt: float | None
    busy_time: float | None
    rwnd_limited_time: float | None
    sndbuf_limited_time: float | None
    delivery_rate: int | None
    backoff: int
    unacked: int
    unread: int
    rank: int | None = None
    """This one; its own span says it too."""
    at: int = 0
    """Nanoseconds since the epoch; in the process that measures it, of the monotonic clock."""
    trace_id: str = ""
    parent_id: str | None = None
    """The span of the step on this rank."""
    source: Source | None = None


class InFlight(NamedTuple):
    """A collective that had not ended at ``time``, ``age`` seconds after its call: a log event, once it hangs."""

    operation: str
    group: str
    sequence: int | None
    size: int | None
    age: float
    backend: str | None = None
    group_size: int | None = None
    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None
    time: int = 0
    trace_id: str = ""
    span_id: str = ""
    """The one that its span will have."""
    source: Source | None = None


class Sequence(NamedTuple):
    """The last collective that a rank began on a group."""

    group: str
    sequence: int


class Heartbeat(NamedTuple):
    """That a rank lives, and what it is at: a log event, at an interval of its own."""

    run_id: str | None = None
    rank: int | None = None
    local_rank: int | None = None
    world_size: int | None = None
    step: int | None = None
    """The one that is open."""
    step_age: float | None = None
    sequences: tuple[Sequence, ...] = ()
    in_flight: tuple[InFlight, ...] = ()
    """The oldest ones; with their first five fields."""
    time: int = 0
    source: Source | None = None


class HostSample(NamedTuple):
    """One data point of a metric. A histogram's ``value`` is its count."""

    metric: str
    value: float
    time: int
    attributes: Mapping[str, Value] = {}
    is_delta: bool = False
    """Whether it counts from the point before, and not from the start."""
    start_time: int | None = None
    sum: float | None = None
    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    """Of a histogram: one for each bucket, the last without an upper bound."""
    source: Source | None = None


class ResourceUsage(NamedTuple):
    """What this process has used so far: running totals, times in nanoseconds, switches as counts."""

    wait: int | None = None
    """The main thread in ``Work.wait``."""
    gc: int | None = None
    """Python's garbage collector, on any thread."""
    data: int | None = None
    """In ``__next__`` of a data loader."""
    cpu: int | None = None
    """All threads on a CPU."""
    run_queue: int | None = None
    """The main thread ready to run, and waiting for a CPU."""
    voluntary: int | None = None
    """Context switches of all threads, because they waited for something."""
    involuntary: int | None = None
    """The same, because another thread got the CPU."""

    def since(self, before: ResourceUsage) -> ResourceUsage:
        """What was added since ``before``."""
        return ResourceUsage(
            *(
                None if now is None or then is None else max(0, now - then)
                for now, then in zip(self, before, strict=True)
            )
        )
