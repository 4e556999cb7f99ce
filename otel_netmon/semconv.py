"""Every metric, span and attribute name that this package emits, with its unit and meaning.

No such literal stands anywhere else: code imports from here, and ``docs/data.md`` is held to this file by a
test. Names that OpenTelemetry's semantic conventions define (schema 1.44.0, status Development) are imported
from ``opentelemetry.semconv``; the conventions say nothing of collectives, so those are ours, under
``torch.distributed.``. The health of the package itself is under ``otel_netmon.``.

Units are seconds and bytes throughout (UCUM ``s``, ``By``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from opentelemetry.semconv._incubating.attributes import host_attributes as _host
from opentelemetry.semconv._incubating.attributes import hw_attributes as _hw
from opentelemetry.semconv._incubating.attributes import network_attributes as _net
from opentelemetry.semconv._incubating.attributes import process_attributes as _process
from opentelemetry.semconv._incubating.metrics import hw_metrics as _hw_metrics
from opentelemetry.semconv._incubating.metrics import system_metrics as _system
from opentelemetry.semconv.attributes import error_attributes as _error
from opentelemetry.semconv.attributes import server_attributes as _server
from opentelemetry.semconv.schemas import Schemas

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.metrics import CallbackT, Meter
    from opentelemetry.metrics import Instrument as OTelInstrument

SCHEMA_URL: Final = Schemas.V1_44_0.value
"""Schema of the borrowed names; passed to every meter and tracer."""

SCOPE_MONITORS: Final = "otel_netmon.monitors"
SCOPE_COLLECTIVES: Final = "otel_netmon.collectives"

# --- attributes -------------------------------------------------------------------------------------------

ERROR_TYPE: Final = _error.ERROR_TYPE
SERVER_ADDRESS: Final = _server.SERVER_ADDRESS
SERVER_PORT: Final = _server.SERVER_PORT

INTERFACE: Final = _net.NETWORK_INTERFACE_NAME
DIRECTION: Final = _net.NETWORK_IO_DIRECTION
DIRECTION_RECEIVE: Final = _net.NetworkIoDirectionValues.RECEIVE.value
DIRECTION_TRANSMIT: Final = _net.NetworkIoDirectionValues.TRANSMIT.value
DEVICE: Final = "system.device"
HW_ID: Final = _hw.HW_ID
HW_NAME: Final = _hw.HW_NAME

MONITOR_NAME: Final = "otel_netmon.monitor.name"
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

STATE_IN_FLIGHT: Final = "in_flight"
CLOCK_HOST: Final = "host"
CLOCK_DEVICE: Final = "device"


@dataclass(frozen=True)
class Attribute:
    """One span or resource attribute of ours: its name, type, and what it says."""

    name: str
    type: Literal["string", "int", "double", "boolean"]
    description: str


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
    Attribute(COLLECTIVE_CLOCK, "string", "`host`: from the call to its completion as the host saw it"),
    Attribute(COLLECTIVE_STATE, "string", "`in_flight` when the process ended first; else absent"),
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
    Attribute(ERROR_TYPE, "string", "class of the failure; absent on success"),
)

# --- spans ------------------------------------------------------------------------------------------------

SPAN_TRAIN_STEP: Final = "train_step"
SPAN_RANK_STEP: Final = "rank_step"
SPAN_COLLECTIVES: Final = (
    *("all_reduce", "all_reduce_coalesced", "broadcast", "reduce", "gather", "scatter"),
    *("all_gather", "all_gather_into_tensor", "all_gather_coalesced", "all_gather_into_tensor_coalesced"),
    *("reduce_scatter", "reduce_scatter_tensor", "reduce_scatter_tensor_coalesced"),
    *("all_to_all", "all_to_all_single", "barrier", "monitored_barrier", "send", "recv"),
)
"""A collective's span is named by its operation, as PyTorch calls it."""

SYNCHRONISING: Final = frozenset(SPAN_COLLECTIVES) - {"broadcast", "reduce", "gather", "scatter", "send", "recv"}
"""Those that no rank leaves before all have entered."""


@dataclass(frozen=True)
class Span:
    """One span: its parent's name, the attributes it may have, and what it says."""

    name: str
    parent: str | None
    description: str
    attributes: tuple[str, ...]


_JOB: Final = (RANK, LOCAL_RANK, WORLD_SIZE)
_STEP: Final = (STEP, STEP_INCOMPLETE, RUN_ID, *_JOB)

SPANS: Final = (
    Span(SPAN_TRAIN_STEP, None, "One training step, from rank 0 only: the root of the step's trace.", _STEP),
    Span(SPAN_RANK_STEP, SPAN_TRAIN_STEP, "One training step on one rank.", _STEP),
    Span(
        SPAN_COLLECTIVES[0],
        SPAN_RANK_STEP,
        "One collective on one rank, from the call to its completion. Named by its operation; likewise "
        + ", ".join(f"`{name}`" for name in SPAN_COLLECTIVES[1:])
        + ".",
        tuple(a.name for a in SPAN_ATTRIBUTES if a.name not in (STEP, STEP_INCOMPLETE, RUN_ID)),
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

# --- metrics ----------------------------------------------------------------------------------------------

Kind = Literal[
    "counter",
    "histogram",
    "observable_counter",
    "observable_up_down_counter",
    "observable_gauge",
]

SECONDS_BUCKETS: Final = (*(float(f"{m}e{e}") for e in range(-5, 2) for m in ("1", "2.5", "5")), 100.0)
"""10 µs … 100 s in 1 / 2.5 / 5 decades: the SDK's defaults are made for milliseconds."""

BYTES_BUCKETS: Final = tuple(float(4**e) for e in range(4, 17))
"""256 B … 4 GiB in powers of four."""


@dataclass(frozen=True)
class Metric:
    """One metric: what `docs/data.md` says of it, and all that is needed to create its instrument."""

    name: str
    kind: Kind
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] | None = None


_NIC = (INTERFACE, DIRECTION)
_HW = (HW_ID, HW_NAME, DIRECTION)
_COLLECTIVE = (COLLECTIVE_NAME, BACKEND, GROUP_NAME, ERROR_TYPE)
_TARGET = (SERVER_ADDRESS, SERVER_PORT)
_MONITOR = (MONITOR_NAME,)

# NetworkInterfaceMonitor
NIC_IO: Final = Metric(
    _system.SYSTEM_NETWORK_IO, "observable_counter", "By", "Bytes a NIC sent and received.", _NIC
)
NIC_PACKETS: Final = Metric(
    _system.SYSTEM_NETWORK_PACKET_COUNT,
    "observable_counter",
    "{packet}",
    "Packets a NIC sent and received.",
    (DEVICE, DIRECTION),
)
NIC_DROPPED: Final = Metric(
    _system.SYSTEM_NETWORK_PACKET_DROPPED, "observable_counter", "{packet}", "Packets a NIC dropped.", _NIC
)
NIC_ERRORS: Final = Metric(
    _system.SYSTEM_NETWORK_ERRORS, "observable_counter", "{error}", "Errors a NIC counted.", _NIC
)
NIC_UP: Final = Metric(
    _hw_metrics.HW_NETWORK_UP,
    "observable_up_down_counter",
    "1",
    "1 when the port of a physical NIC is up, 0 when it is down.",
    (HW_ID, HW_NAME),
)
NIC_LIMIT: Final = Metric(
    _hw_metrics.HW_NETWORK_BANDWIDTH_LIMIT,
    "observable_up_down_counter",
    "By/s",
    "Link speed of a physical NIC.",
    (HW_ID, HW_NAME),
)
NIC_UTILIZATION: Final = Metric(
    _hw_metrics.HW_NETWORK_BANDWIDTH_UTILIZATION,
    "observable_gauge",
    "1",
    "Share of a physical NIC's link speed in use, per direction, over the last window.",
    _HW,
)

# NetworkBandwidthMonitor
THROUGHPUT: Final = Metric(
    "otel_netmon.network.throughput",
    "observable_gauge",
    "By/s",
    "Bytes per second over all selected NICs, per direction, over the last window.",
    (DIRECTION,),
)
THROUGHPUT_PEAK: Final = Metric(
    "otel_netmon.network.throughput.peak",
    "observable_gauge",
    "By/s",
    "Highest throughput seen since the start.",
    (DIRECTION,),
)
LINK_UTILIZATION: Final = Metric(
    "otel_netmon.network.utilization",
    "observable_gauge",
    "1",
    "Throughput over the summed link speed of the selected NICs; absent when a speed is unknown.",
    (DIRECTION,),
)

# NetworkLatencyMonitor
LATENCY: Final = Metric(
    "otel_netmon.network.latency",
    "histogram",
    "s",
    "TCP connect time to a target the user named, one value per successful attempt.",
    _TARGET,
    SECONDS_BUCKETS,
)
LATENCY_MEAN: Final = Metric(
    "otel_netmon.network.latency.mean", "observable_gauge", "s", "Mean connect time, last round.", _TARGET
)
LATENCY_MIN: Final = Metric(
    "otel_netmon.network.latency.min", "observable_gauge", "s", "Shortest connect time, last round.", _TARGET
)
LATENCY_MAX: Final = Metric(
    "otel_netmon.network.latency.max", "observable_gauge", "s", "Longest connect time, last round.", _TARGET
)
LATENCY_JITTER: Final = Metric(
    "otel_netmon.network.latency.jitter",
    "observable_gauge",
    "s",
    "Mean absolute difference of successive connect times, last round.",
    _TARGET,
)
LATENCY_LOSS: Final = Metric(
    "otel_netmon.network.latency.loss",
    "observable_gauge",
    "1",
    "Share of attempts that got no connection, last round.",
    _TARGET,
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

# health of the monitors
MONITOR_SUCCESS: Final = Metric(
    "otel_netmon.monitor.success", "observable_gauge", "1", "1 when the last sample worked, else 0.", _MONITOR
)
MONITOR_DURATION: Final = Metric(
    "otel_netmon.monitor.duration", "observable_gauge", "s", "How long the last sample took.", _MONITOR
)
MONITOR_AGE: Final = Metric(
    "otel_netmon.monitor.age", "observable_gauge", "s", "Age of the data last sampled.", _MONITOR
)

# collectives
COLLECTIVE_DURATION_METRIC: Final = Metric(
    "torch.distributed.collective.duration",
    "histogram",
    "s",
    "Time from a collective's call to its completion on this rank.",
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
COLLECTIVE_ACTIVE_METRIC: Final = Metric(
    "torch.distributed.collective.active",
    "observable_up_down_counter",
    "{collective}",
    "Collectives started and not yet complete.",
    _COLLECTIVE[:3],
)

# health of the capture engine
EVENTS_DROPPED: Final = Metric(
    "otel_netmon.events.dropped",
    "observable_counter",
    "{event}",
    "Collectives whose span was lost: `ring_full`, or an `error` of ours while recording or emitting.",
    (DROP_REASON,),
)
DROP_RING_FULL: Final = "ring_full"
DROP_ERROR: Final = "error"

METRICS: Final[tuple[Metric, ...]] = tuple(v for v in list(globals().values()) if isinstance(v, Metric))
"""All of them, in the order above."""


def create(meter: Meter, metric: Metric, callbacks: Sequence[CallbackT] | None = None) -> OTelInstrument:
    """Create the instrument that ``metric`` describes; ``callbacks`` only for the observable kinds.

    Returns the API's instrument; synchronous kinds have ``add`` or ``record``.
    """
    make = getattr(meter, "create_" + metric.kind)
    if metric.kind == "histogram":
        instrument = make(
            metric.name,
            unit=metric.unit,
            description=metric.description,
            explicit_bucket_boundaries_advisory=metric.buckets,
        )
    elif metric.kind == "counter":
        instrument = make(metric.name, unit=metric.unit, description=metric.description)
    else:
        instrument = make(metric.name, callbacks=callbacks, unit=metric.unit, description=metric.description)
    return instrument  # type: ignore[no-any-return]  # getattr erases the four concrete types
