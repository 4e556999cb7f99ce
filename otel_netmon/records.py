"""What is known of a run, in plain frozen values: the same wherever it is written, read or asked about.

A field is annotated with the attribute that it is in OpenTelemetry; its name is that of the SQL column. What is
``None`` is *not known*, never 0. Times are nanoseconds since the epoch and durations seconds, where a field does
not say otherwise. Fields behind the attributes belong to the span, log record or data point itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, NamedTuple

from otel_netmon import semconv

Value = str | int | float | bool


class Source(NamedTuple):
    """The process that a record comes from, by its resource."""

    instance: Annotated[str, semconv.SERVICE_INSTANCE] = ""
    """Or what comes nearest to it."""
    host: Annotated[str | None, semconv.HOST_NAME] = None
    rank: Annotated[int | None, semconv.RANK] = None
    local_rank: Annotated[int | None, semconv.LOCAL_RANK] = None
    world_size: Annotated[int | None, semconv.WORLD_SIZE] = None
    service: Annotated[str | None, semconv.SERVICE_NAME] = None
    pid: Annotated[int | None, semconv.PROCESS_ID] = None


class Collective(NamedTuple):
    """One call of one collective on one rank: a span. It says which rank, but not what is the same in all of a
    process's spans: that is in ``source``, and in the ``RankStep`` above."""

    operation: Annotated[str, semconv.COLLECTIVE_NAME]
    group: Annotated[str | None, semconv.GROUP_NAME] = None
    backend: Annotated[str | None, semconv.BACKEND] = None
    group_size: Annotated[int | None, semconv.GROUP_SIZE] = None
    group_rank: Annotated[int | None, semconv.GROUP_RANK] = None
    rank: Annotated[int | None, semconv.RANK] = None
    clock: Annotated[str | None, semconv.COLLECTIVE_CLOCK] = None
    size: Annotated[int | None, semconv.COLLECTIVE_SIZE] = None
    sequence: Annotated[int | None, semconv.COLLECTIVE_SEQUENCE] = None
    dtype: Annotated[str | None, semconv.COLLECTIVE_DTYPE] = None
    element_count: Annotated[int | None, semconv.COLLECTIVE_ELEMENT_COUNT] = None
    reduce_op: Annotated[str | None, semconv.COLLECTIVE_REDUCE_OP] = None
    is_async: Annotated[bool | None, semconv.COLLECTIVE_ASYNC] = None
    error: Annotated[str | None, semconv.ERROR_TYPE] = None
    error_message: Annotated[str | None, semconv.COLLECTIVE_ERROR_MESSAGE] = None
    state: Annotated[str | None, semconv.COLLECTIVE_STATE] = None
    device_duration: Annotated[float | None, semconv.COLLECTIVE_DEVICE_DURATION] = None
    device_bound: Annotated[float | None, semconv.COLLECTIVE_DEVICE_BOUND] = None
    algbw: Annotated[float | None, semconv.COLLECTIVE_ALGBW] = None
    busbw: Annotated[float | None, semconv.COLLECTIVE_BUSBW] = None
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
    ranks: int | None


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
    run_id: Annotated[str | None, semconv.RUN_ID] = None
    attempt: Annotated[int | None, semconv.ATTEMPT] = None
    rank: Annotated[int | None, semconv.RANK] = None
    local_rank: Annotated[int | None, semconv.LOCAL_RANK] = None
    world_size: Annotated[int | None, semconv.WORLD_SIZE] = None
    step: Annotated[int | None, semconv.STEP] = None
    incomplete: Annotated[bool | None, semconv.STEP_INCOMPLETE] = None
    sampled: Annotated[bool | None, semconv.STEP_SAMPLED] = None
    first_collective: Annotated[float | None, semconv.STEP_FIRST_COLLECTIVE] = None
    collective_count: Annotated[int | None, semconv.STEP_COLLECTIVE_COUNT] = None
    collective_size: Annotated[int | None, semconv.STEP_COLLECTIVE_SIZE] = None
    collective_time: Annotated[float | None, semconv.STEP_COLLECTIVE_TIME] = None
    issue_time: Annotated[float | None, semconv.STEP_ISSUE_TIME] = None
    wait_time: Annotated[float | None, semconv.STEP_WAIT_TIME] = None
    gc_time: Annotated[float | None, semconv.STEP_GC_TIME] = None
    data_time: Annotated[float | None, semconv.STEP_DATA_TIME] = None
    cpu_time: Annotated[float | None, semconv.STEP_CPU_TIME] = None
    run_queue_time: Annotated[float | None, semconv.STEP_RUN_QUEUE_TIME] = None
    throttled_time: Annotated[float | None, semconv.STEP_THROTTLED_TIME] = None
    switches_voluntary: Annotated[int | None, semconv.STEP_SWITCHES_VOLUNTARY] = None
    switches_involuntary: Annotated[int | None, semconv.STEP_SWITCHES_INVOLUNTARY] = None
    groups: Annotated[tuple[GroupUse, ...], semconv.STEP_GROUPS] = ()
    calls: Annotated[tuple[Call, ...], semconv.STEP_COLLECTIVES] = ()
    """At most the first ``MOST_CALLS``."""
    pauses: Annotated[tuple[Pause, ...], semconv.STEP_PAUSES] = ()
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
    those connections that moved, ``shortest_rtt`` the shortest: of one that is hardly used it is that of the way
    without load. ``min_rtt`` is the shortest that the kernel remembers, ``delivery_rate`` that of the fastest.
    ``backoff`` counts doublings of the retransmission timeout; ``unacked`` and ``unread`` are what the peer has
    not acknowledged and this process has not read.
    """

    peer: Annotated[int, semconv.PEER_RANK]
    host: Annotated[str | None, semconv.PEER_HOST]
    interval: Annotated[float, semconv.PEER_INTERVAL]
    connections: Annotated[int, semconv.PEER_CONNECTIONS]
    bytes_sent: Annotated[int | None, semconv.PEER_SENT]
    bytes_received: Annotated[int | None, semconv.PEER_RECEIVED]
    segments_sent: Annotated[int | None, semconv.PEER_SEGMENTS]
    retransmits: Annotated[int, semconv.PEER_RETRANSMITS]
    rtt: Annotated[float | None, semconv.PEER_RTT]
    rtt_variation: Annotated[float | None, semconv.PEER_RTT_VARIATION]
    min_rtt: Annotated[float | None, semconv.PEER_RTT_MIN]
    busy_time: Annotated[float | None, semconv.PEER_BUSY_TIME]
    rwnd_limited_time: Annotated[float | None, semconv.PEER_RWND_LIMITED_TIME]
    sndbuf_limited_time: Annotated[float | None, semconv.PEER_SNDBUF_LIMITED_TIME]
    delivery_rate: Annotated[int | None, semconv.PEER_DELIVERY_RATE]
    backoff: Annotated[int, semconv.PEER_BACKOFF]
    unacked: Annotated[int, semconv.PEER_UNACKED]
    unread: Annotated[int, semconv.PEER_UNREAD]
    rank: Annotated[int | None, semconv.RANK] = None
    """This one; its own span says it too."""
    shortest_rtt: Annotated[float | None, semconv.PEER_RTT_SHORTEST] = None
    address: Annotated[str | None, semconv.PEER_ADDRESS] = None
    """The peer's, of the busiest of the connections: metrics name peers by it."""
    at: int = 0
    """Nanoseconds since the epoch; in the process that measures it, of the monotonic clock."""
    trace_id: str = ""
    parent_id: str | None = None
    """The span of the step on this rank."""
    source: Source | None = None


class HostTraffic(NamedTuple):
    """What a NIC moved in the ``interval`` seconds before ``at``, and how much of that was this process's part of
    the training, read at the same moment: a log event. Bytes; the NIC's with all headers, the training's without.
    """

    interface: Annotated[str, semconv.INTERFACE]
    interval: Annotated[float, semconv.NIC_INTERVAL]
    sent: Annotated[int, semconv.NIC_SENT]
    received: Annotated[int, semconv.NIC_RECEIVED]
    job_sent: Annotated[int, semconv.NIC_JOB_SENT]
    job_received: Annotated[int, semconv.NIC_JOB_RECEIVED]
    rank: Annotated[int | None, semconv.RANK] = None
    at: int = 0
    """Nanoseconds since the epoch; in the process that measures it, of the monotonic clock."""
    source: Source | None = None


class InFlight(NamedTuple):
    """A collective that had not ended at ``time``, ``age`` seconds after its call: a log event, once it hangs."""

    operation: Annotated[str, semconv.COLLECTIVE_NAME]
    group: Annotated[str, semconv.GROUP_NAME]
    sequence: Annotated[int | None, semconv.COLLECTIVE_SEQUENCE]
    size: Annotated[int | None, semconv.COLLECTIVE_SIZE]
    age: Annotated[float, semconv.COLLECTIVE_AGE]
    backend: Annotated[str | None, semconv.BACKEND] = None
    group_size: Annotated[int | None, semconv.GROUP_SIZE] = None
    rank: Annotated[int | None, semconv.RANK] = None
    local_rank: Annotated[int | None, semconv.LOCAL_RANK] = None
    world_size: Annotated[int | None, semconv.WORLD_SIZE] = None
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

    run_id: Annotated[str | None, semconv.RUN_ID] = None
    rank: Annotated[int | None, semconv.RANK] = None
    local_rank: Annotated[int | None, semconv.LOCAL_RANK] = None
    world_size: Annotated[int | None, semconv.WORLD_SIZE] = None
    step: Annotated[int | None, semconv.STEP] = None
    """The one that is open."""
    step_age: Annotated[float | None, semconv.HEARTBEAT_AGE] = None
    sequences: Annotated[tuple[Sequence, ...], semconv.HEARTBEAT_SEQUENCES] = ()
    in_flight: Annotated[tuple[InFlight, ...], semconv.HEARTBEAT_IN_FLIGHT] = ()
    """The oldest ones; with their first five fields."""
    time: int = 0
    source: Source | None = None


class Verdict(NamedTuple):
    """A finding of the live diagnosis that came, or is over: a log event of the rank that diagnoses."""

    kind: Annotated[str, semconv.DIAGNOSIS_KIND]
    is_over: Annotated[bool, semconv.DIAGNOSIS_OVER]
    confidence: Annotated[str, semconv.DIAGNOSIS_CONFIDENCE]
    cause: Annotated[str | None, semconv.DIAGNOSIS_CAUSE] = None
    ranks: Annotated[str | None, semconv.DIAGNOSIS_RANKS] = None
    hosts: Annotated[str | None, semconv.DIAGNOSIS_HOSTS] = None
    direction: Annotated[str | None, semconv.DIAGNOSIS_DIRECTION] = None
    first_step: Annotated[int | None, semconv.DIAGNOSIS_FIRST_STEP] = None
    last_step: Annotated[int | None, semconv.DIAGNOSIS_LAST_STEP] = None
    lost: Annotated[float | None, semconv.DIAGNOSIS_LOST] = None
    run_id: Annotated[str | None, semconv.RUN_ID] = None
    time: int = 0
    trace_id: str = ""
    """Of a step that shows it."""
    span_id: str = ""
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
    throttled: int | None = None
    """Its cgroup stopped by a CPU quota, summed over its CPUs."""
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
