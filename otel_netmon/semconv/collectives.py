"""Collectives and steps: attributes, spans and metrics."""

from __future__ import annotations

from typing import Final

from opentelemetry.semconv._incubating.attributes import host_attributes as _host
from opentelemetry.semconv._incubating.attributes import process_attributes as _process

from otel_netmon.semconv.model import BYTES_BUCKETS, ERROR_TYPE, SECONDS_BUCKETS, Attribute, Metric, Span

DROP_REASON: Final = "otel_netmon.drop.reason"

_TD: Final = "torch.distributed."
COLLECTIVE_NAME: Final = _TD + "collective.name"
COLLECTIVE_SEQUENCE: Final = _TD + "collective.sequence"
COLLECTIVE_SIZE: Final = _TD + "collective.size"
COLLECTIVE_ELEMENT_COUNT: Final = _TD + "collective.element_count"
COLLECTIVE_DTYPE: Final = _TD + "collective.dtype"
COLLECTIVE_REDUCE_OP: Final = _TD + "collective.reduce_op"
COLLECTIVE_ASYNC: Final = _TD + "collective.async"
COLLECTIVE_ALGBW: Final = _TD + "collective.algbw"
COLLECTIVE_BUSBW: Final = _TD + "collective.busbw"
COLLECTIVE_CLOCK: Final = _TD + "collective.clock"
COLLECTIVE_DEVICE_DURATION: Final = _TD + "collective.device_duration"
COLLECTIVE_DEVICE_BOUND: Final = _TD + "collective.device_bound"
COLLECTIVE_STATE: Final = _TD + "collective.state"
GROUP_NAME: Final = _TD + "group.name"
GROUP_SIZE: Final = _TD + "group.size"
GROUP_RANK: Final = _TD + "group.rank"
BACKEND: Final = _TD + "backend"
RANK: Final = _TD + "rank"
LOCAL_RANK: Final = _TD + "local_rank"
WORLD_SIZE: Final = _TD + "world_size"
STEP: Final = _TD + "step"
STEP_INCOMPLETE: Final = _TD + "step.incomplete"
RUN_ID: Final = _TD + "run.id"
ATTEMPT: Final = _TD + "run.attempt"
STEP_FIRST_COLLECTIVE: Final = _TD + "step.first_collective"
STEP_COLLECTIVE_COUNT: Final = _TD + "step.collective_count"
STEP_COLLECTIVE_SIZE: Final = _TD + "step.collective_size"
STEP_COLLECTIVE_TIME: Final = _TD + "step.collective_time"
STEP_WAIT_TIME: Final = _TD + "step.wait_time"
STEP_GC_TIME: Final = _TD + "step.gc_time"
STEP_DATA_TIME: Final = _TD + "step.data_time"
STEP_CPU_TIME: Final = _TD + "step.cpu_time"
STEP_RUN_QUEUE_TIME: Final = _TD + "step.run_queue_time"
STEP_SWITCHES_VOLUNTARY: Final = _TD + "step.context_switches.voluntary"
STEP_SWITCHES_INVOLUNTARY: Final = _TD + "step.context_switches.involuntary"

STATE_IN_FLIGHT: Final = "in_flight"
STATE_LATE: Final = "late"
CLOCK_HOST: Final = "host"
CLOCK_DEVICE: Final = "device"


COLLECTIVE_AGE: Final = "torch.distributed.collective.age"
LOG_ATTRIBUTES: Final = (Attribute(COLLECTIVE_AGE, "double", "s in flight when it was told"),)
EVENT_STALLED: Final = "torch.distributed.collective.stalled"
"""Name of the log event of a collective that hangs."""

SPAN_ATTRIBUTES: Final = (
    Attribute(COLLECTIVE_NAME, "string", "operation, by its PyTorch name: `all_reduce`"),
    Attribute(COLLECTIVE_SEQUENCE, "int", "the group's count of collectives: the same on every rank"),
    Attribute(COLLECTIVE_SIZE, "int", "bytes of this rank's buffer, as nccl-tests counts it"),
    Attribute(COLLECTIVE_ELEMENT_COUNT, "int", "elements in that buffer"),
    Attribute(COLLECTIVE_DTYPE, "string", "element type: `float32`; absent when the tensors differ"),
    Attribute(COLLECTIVE_REDUCE_OP, "string", "`sum`, `avg`, `max`, …; absent where nothing is reduced"),
    Attribute(COLLECTIVE_ASYNC, "boolean", "true when the caller asked not to block"),
    Attribute(COLLECTIVE_ALGBW, "double", "By/s: size over duration; absent without a true duration"),
    Attribute(COLLECTIVE_BUSBW, "double", "By/s: algbw times nccl-tests' factor for the operation and group"),
    Attribute(
        COLLECTIVE_CLOCK,
        "string",
        "`host`: from the call to its completion as the host saw it (on a device without timing: the call alone); "
        "`device`: bandwidths and the metric are of the device's time",
    ),
    Attribute(COLLECTIVE_DEVICE_DURATION, "double", "s on the device, where the Flight Recorder timed it"),
    Attribute(
        COLLECTIVE_DEVICE_BOUND,
        "double",
        "s from the enqueueing until the Flight Recorder's watchdog noticed the end: it took no longer",
    ),
    Attribute(
        COLLECTIVE_STATE,
        "string",
        "`in_flight` when the process ended first; `late` when the end is only a bound; else absent",
    ),
    Attribute(GROUP_NAME, "string", "process group's name in torch: `0` is the default group"),
    Attribute(GROUP_SIZE, "int", "ranks in the group"),
    Attribute(GROUP_RANK, "int", "this process's rank within the group"),
    Attribute(BACKEND, "string", "`gloo`, `nccl`, …"),
    Attribute(RANK, "int", "global rank"),
    Attribute(LOCAL_RANK, "int", "rank within the host; absent when the launcher does not say"),
    Attribute(WORLD_SIZE, "int", "ranks in the job"),
    Attribute(STEP, "int", "training step, from 0; on `train_step` and `rank_step`"),
    Attribute(STEP_INCOMPLETE, "boolean", "true on the step that was open when the process ended; else absent"),
    Attribute(RUN_ID, "string", "the run's id, the same on every rank; on the step spans"),
    Attribute(
        ATTEMPT, "int", "how many times an elastic launcher restarted the ranks; absent at the first attempt"
    ),
    Attribute(
        STEP_FIRST_COLLECTIVE, "double", "s from the start of the step to its first collective on this rank"
    ),
    Attribute(STEP_COLLECTIVE_COUNT, "int", "collectives that this rank began in the step"),
    Attribute(STEP_COLLECTIVE_SIZE, "int", "sum of their `torch.distributed.collective.size`"),
    Attribute(STEP_COLLECTIVE_TIME, "double", "s of the step with at least one of them in flight"),
    Attribute(
        STEP_WAIT_TIME, "double", "s of the main thread in `Work.wait`; waits within C++ (DDP's) are not seen"
    ),
    Attribute(STEP_GC_TIME, "double", "s in Python's garbage collector"),
    Attribute(STEP_DATA_TIME, "double", "s of the main thread in `__next__` of a `DataLoader`"),
    Attribute(STEP_CPU_TIME, "double", "s on a CPU, all threads of the process"),
    Attribute(STEP_RUN_QUEUE_TIME, "double", "s that the main thread was ready to run and waited for a CPU"),
    Attribute(STEP_SWITCHES_VOLUNTARY, "int", "context switches of the process because it waited for something"),
    Attribute(STEP_SWITCHES_INVOLUNTARY, "int", "context switches of the process because it lost the CPU"),
    Attribute(ERROR_TYPE, "string", "class of the failure; absent on success"),
)

# --- spans ------------------------------------------------------------------------------------------------

SPAN_TRAIN_STEP: Final = "train_step"
SPAN_RANK_STEP: Final = "rank_step"
SPAN_SETUP: Final = "setup"
SPAN_RANK_SETUP: Final = "rank_setup"
SPAN_WINDOW: Final = "window"
SPAN_RANK_WINDOW: Final = "rank_window"
SPAN_PERIODS: Final = (
    *(SPAN_TRAIN_STEP, SPAN_RANK_STEP, SPAN_SETUP, SPAN_RANK_SETUP, SPAN_WINDOW, SPAN_RANK_WINDOW),
)
"""All that stand above collectives."""

SPAN_COLLECTIVES: Final = (
    *("all_reduce", "all_reduce_coalesced", "broadcast", "reduce", "gather", "scatter"),
    *("all_gather", "all_gather_into_tensor", "all_gather_coalesced", "all_gather_into_tensor_coalesced"),
    *("reduce_scatter", "reduce_scatter_tensor", "reduce_scatter_tensor_coalesced"),
    *("all_to_all", "all_to_all_single", "barrier", "monitored_barrier", "send", "recv"),
)
"""A collective's span is named by its operation, as PyTorch calls it."""

SYNCHRONISING: Final = frozenset(SPAN_COLLECTIVES) - {"broadcast", "reduce", "gather", "scatter", "send", "recv"}
"""Those that no rank leaves before all have entered."""


_JOB: Final = (RANK, LOCAL_RANK, WORLD_SIZE)
_PERIOD: Final = (RUN_ID, ATTEMPT, *_JOB)
_STEP: Final = (STEP, STEP_INCOMPLETE, *_PERIOD)
_SUMS: Final = (STEP_FIRST_COLLECTIVE, STEP_COLLECTIVE_COUNT, STEP_COLLECTIVE_SIZE, STEP_COLLECTIVE_TIME)
_USED: Final = (
    *(STEP_WAIT_TIME, STEP_GC_TIME, STEP_DATA_TIME, STEP_CPU_TIME, STEP_RUN_QUEUE_TIME),
    *(STEP_SWITCHES_VOLUNTARY, STEP_SWITCHES_INVOLUNTARY),
)

SPANS: Final = (
    Span(SPAN_TRAIN_STEP, None, "One training step, from rank 0 only: the root of the step's trace.", _STEP),
    Span(SPAN_RANK_STEP, SPAN_TRAIN_STEP, "One training step on one rank.", (*_STEP, *_SUMS, *_USED)),
    Span(SPAN_SETUP, None, "What was communicated before the first step, from rank 0 only: a root.", _PERIOD),
    Span(SPAN_RANK_SETUP, SPAN_SETUP, "The same on one rank.", (*_PERIOD, *_SUMS, *_USED)),
    Span(
        SPAN_WINDOW,
        None,
        "A slice of the clock where nothing marks steps (inference, say), from rank 0 only: a root.",
        _PERIOD,
    ),
    Span(SPAN_RANK_WINDOW, SPAN_WINDOW, "The same on one rank.", (*_PERIOD, *_SUMS)),
    Span(
        SPAN_COLLECTIVES[0],
        SPAN_RANK_STEP,
        "One collective on one rank, from the call to its completion; below `rank_setup` or `rank_window` where "
        "it is in no step. Named by its operation; likewise "
        + ", ".join(f"`{name}`" for name in SPAN_COLLECTIVES[1:])
        + ".",
        tuple(a.name for a in SPAN_ATTRIBUTES if a.name not in {*_STEP, *_SUMS, *_USED} - {*_JOB}),
    ),
)

RESOURCE_ATTRIBUTES: Final = (
    Attribute(_host.HOST_NAME, "string", "the host's name"),
    Attribute(_process.PROCESS_PID, "int", "process id"),
    Attribute(RANK, "int", "global rank, when the launcher's variables say it"),
    Attribute(LOCAL_RANK, "int", "rank within the host, when they say it"),
    Attribute(WORLD_SIZE, "int", "ranks in the job, when they say it"),
)
"""Those of the resource detector ``otel_netmon``."""


_COLLECTIVE = (COLLECTIVE_NAME, BACKEND, GROUP_NAME, ERROR_TYPE)

# --- metrics ----------------------------------------------------------------------------------------------
COLLECTIVE_DURATION_METRIC: Final = Metric(
    "torch.distributed.collective.duration",
    "histogram",
    "s",
    "Time from a collective's call to its completion on this rank; on a device, its time there, if known.",
    _COLLECTIVE,
    SECONDS_BUCKETS,
)
COLLECTIVE_SIZE_METRIC: Final = Metric(
    "torch.distributed.collective.size",
    "histogram",
    "By",
    "Bytes of this rank's buffer in a collective.",
    _COLLECTIVE,
    BYTES_BUCKETS,
)
COLLECTIVE_IO_METRIC: Final = Metric(
    "torch.distributed.collective.io",
    "counter",
    "By",
    "Sum of the bytes of this rank's buffers in collectives.",
    _COLLECTIVE,
)
COLLECTIVE_AGE_METRIC: Final = Metric(
    "torch.distributed.collective.in_flight.age",
    "observable_gauge",
    "s",
    "How long the oldest collective of a group has been in flight; absent while there is none.",
    (GROUP_NAME, BACKEND),
)
COLLECTIVE_ACTIVE_METRIC: Final = Metric(
    "torch.distributed.collective.active",
    "observable_up_down_counter",
    "{collective}",
    "Collectives started and not yet complete.",
    _COLLECTIVE[:3],
)

STEP_DURATION_METRIC: Final = Metric(
    "torch.distributed.step.duration",
    "histogram",
    "s",
    "Duration of the training steps on this rank: of the `rank_step` spans, sampled or not.",
    (),
    SECONDS_BUCKETS,
)
STEP_COLLECTIVE_TIME_METRIC: Final = Metric(
    STEP_COLLECTIVE_TIME,
    "counter",
    "s",
    "Time of those steps with at least one collective in flight: the rank that waits least is the late one.",
)

# DistributedNetworkMonitor
WINDOW_COUNT: Final = Metric(
    "otel_netmon.collective.window.count",
    "observable_gauge",
    "{collective}",
    "Collectives completed in the last window.",
    _COLLECTIVE[:3],
)
WINDOW_P50: Final = Metric(
    "otel_netmon.collective.window.duration.p50",
    "observable_gauge",
    "s",
    "Median duration of the collectives in the last window.",
    _COLLECTIVE[:3],
)
WINDOW_P99: Final = Metric(
    "otel_netmon.collective.window.duration.p99",
    "observable_gauge",
    "s",
    "99th percentile of the duration of the collectives in the last window.",
    _COLLECTIVE[:3],
)
WINDOW_BUSBW: Final = Metric(
    "otel_netmon.collective.window.busbw",
    "observable_gauge",
    "By/s",
    "Mean bus bandwidth (bytes moved over time spent, nccl-tests' factor) in the last window.",
    _COLLECTIVE[:3],
)

# health of the capture engine
EVENTS_DROPPED: Final = Metric(
    "otel_netmon.events.dropped",
    "observable_counter",
    "{event}",
    "Collectives whose span was lost: `ring_full`, ours or the Flight Recorder's, or an `error` of ours while "
    "recording or emitting.",
    (DROP_REASON,),
)
PEER_READINGS_DROPPED: Final = Metric(
    "otel_netmon.peer.readings.dropped",
    "observable_counter",
    "{reading}",
    "Readings of the connections to another rank that no span shows: most are of steps that are not sampled.",
)
DROP_RING_FULL: Final = "ring_full"
DROP_ERROR: Final = "error"
