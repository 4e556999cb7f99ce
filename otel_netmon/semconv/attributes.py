"""What spans and log events say of collectives, of steps, and of the traffic with a peer."""

from __future__ import annotations

from typing import Final

from opentelemetry.semconv._incubating.attributes import host_attributes as _host
from opentelemetry.semconv._incubating.attributes import process_attributes as _process
from opentelemetry.semconv.attributes import error_attributes as _error

from otel_netmon.semconv.model import Attribute

_TD: Final = "torch.distributed."
_NO_TENSOR: Final = "the operation has no buffer"
_NO_RATE: Final = "the true duration is not known, or it failed"

# --- one collective ---------------------------------------------------------------------------------------

COLLECTIVE_NAME: Final = Attribute(
    _TD + "collective.name", "string", "operation, by its PyTorch name: `all_reduce`"
)
COLLECTIVE_SEQUENCE: Final = Attribute(
    _TD + "collective.sequence",
    "int",
    "the group's count of collectives: the same on every rank",
    "between two ranks: not counted",
)
COLLECTIVE_SIZE: Final = Attribute(
    _TD + "collective.size", "int", "bytes of this rank's buffer, as nccl-tests counts it", _NO_TENSOR, "By"
)
COLLECTIVE_ELEMENT_COUNT: Final = Attribute(
    _TD + "collective.element_count", "int", "elements in that buffer", "no tensor, or tensors of several types"
)
COLLECTIVE_DTYPE: Final = Attribute(
    _TD + "collective.dtype", "string", "element type: `float32`", "no tensor, or tensors of several types"
)
COLLECTIVE_REDUCE_OP: Final = Attribute(
    _TD + "collective.reduce_op", "string", "`sum`, `avg`, `max`, …", "nothing is reduced, or torch does not say"
)
COLLECTIVE_ASYNC: Final = Attribute(
    _TD + "collective.async", "boolean", "true when the caller asked not to block", "torch does not say"
)
COLLECTIVE_ALGBW: Final = Attribute(_TD + "collective.algbw", "double", "size over duration", _NO_RATE, "By/s")
COLLECTIVE_BUSBW: Final = Attribute(
    _TD + "collective.busbw",
    "double",
    "algbw times nccl-tests' factor for the operation and group",
    _NO_RATE + ", or there is no formula: unequal splits, say",
    "By/s",
)
COLLECTIVE_CLOCK: Final = Attribute(
    _TD + "collective.clock",
    "string",
    "`host`: from the call to its completion as the host saw it (on a device without timing: the call alone); "
    "`device`: bandwidths and the metric are of the device's time",
)
COLLECTIVE_DEVICE_DURATION: Final = Attribute(
    _TD + "collective.device_duration",
    "double",
    "time on the device, by the Flight Recorder",
    "on the host, or not timed",
    "s",
)
COLLECTIVE_DEVICE_BOUND: Final = Attribute(
    _TD + "collective.device_bound",
    "double",
    "from the enqueueing until the Flight Recorder's watchdog noticed the end: it took no longer",
    "on the host, or its duration is known, or nothing is",
    "s",
)
COLLECTIVE_STATE: Final = Attribute(
    _TD + "collective.state",
    "string",
    "`in_flight` when the process ended first; `late` when the end is only a bound",
    "it ended when the span does",
)
GROUP_NAME: Final = Attribute(
    _TD + "group.name", "string", "process group's name in torch: `0` is the default group"
)
GROUP_SIZE: Final = Attribute(_TD + "group.size", "int", "ranks in the group", "the group does not say")
GROUP_RANK: Final = Attribute(
    _TD + "group.rank", "int", "this process's rank within the group", "the group does not say"
)
BACKEND: Final = Attribute(_TD + "backend", "string", "`gloo`, `nccl`, …")
ERROR_TYPE: Final = Attribute(_error.ERROR_TYPE, "string", "class of the failure", "success")

# --- the rank ---------------------------------------------------------------------------------------------

RANK: Final = Attribute(_TD + "rank", "int", "global rank", "the process has none")
LOCAL_RANK: Final = Attribute(_TD + "local_rank", "int", "rank within the host", "the launcher does not say")
WORLD_SIZE: Final = Attribute(_TD + "world_size", "int", "ranks in the job", "the process has no rank")
RUN_ID: Final = Attribute(_TD + "run.id", "string", "the run's id, the same on every rank")
ATTEMPT: Final = Attribute(
    _TD + "run.attempt", "int", "how many times an elastic launcher restarted the ranks", "the first attempt"
)

# --- a step on a rank -------------------------------------------------------------------------------------

_NO_COLLECTIVE: Final = "there was none"
_UNREAD: Final = "this system does not tell, or it is no step"
STEP: Final = Attribute(_TD + "step", "int", "training step, from 0: this rank's count", "it is no step")
STEP_INCOMPLETE: Final = Attribute(
    _TD + "step.incomplete", "boolean", "true on the step that was open when the process ended", "it is complete"
)
STEP_START: Final = Attribute(
    _TD + "step.start", "int", "when it started, in ns since the epoch; on the log event", "on the span", "ns"
)
STEP_SAMPLED: Final = Attribute(
    _TD + "step.sampled", "boolean", "whether spans were made of this rank's collectives in it"
)
STEP_FIRST_COLLECTIVE: Final = Attribute(
    _TD + "step.first_collective",
    "double",
    "from the start of the step to its first collective on this rank",
    _NO_COLLECTIVE,
    "s",
)
STEP_COLLECTIVE_COUNT: Final = Attribute(
    _TD + "step.collective_count", "int", "collectives that this rank began in the step"
)
STEP_COLLECTIVE_SIZE: Final = Attribute(
    _TD + "step.collective_size", "int", "sum of their `torch.distributed.collective.size`", unit="By"
)
STEP_COLLECTIVE_TIME: Final = Attribute(
    _TD + "step.collective_time", "double", "time of the step with at least one of them in flight", unit="s"
)
STEP_WAIT_TIME: Final = Attribute(
    _TD + "step.wait_time",
    "double",
    "the main thread in `Work.wait`; waits within C++ (DDP's) are not seen",
    _UNREAD,
    "s",
)
STEP_GC_TIME: Final = Attribute(_TD + "step.gc_time", "double", "Python's garbage collector", _UNREAD, "s")
STEP_DATA_TIME: Final = Attribute(
    _TD + "step.data_time", "double", "the main thread in `__next__` of a `DataLoader`", _UNREAD, "s"
)
STEP_CPU_TIME: Final = Attribute(
    _TD + "step.cpu_time", "double", "on a CPU, all threads of the process", _UNREAD, "s"
)
STEP_RUN_QUEUE_TIME: Final = Attribute(
    _TD + "step.run_queue_time", "double", "the main thread ready to run, and waiting for a CPU", _UNREAD, "s"
)
STEP_SWITCHES_VOLUNTARY: Final = Attribute(
    _TD + "step.context_switches.voluntary",
    "int",
    "context switches of the process because it waited for something",
    _UNREAD,
)
STEP_SWITCHES_INVOLUNTARY: Final = Attribute(
    _TD + "step.context_switches.involuntary",
    "int",
    "context switches of the process because it lost the CPU",
    _UNREAD,
)
STEP_GROUPS: Final = Attribute(
    _TD + "step.groups",
    "string",
    "JSON, by process group: name, collectives, their bytes, the sum of their durations in µs, the last sequence "
    "number; `null` is not known",
    _NO_COLLECTIVE,
)
STEP_COLLECTIVES: Final = Attribute(
    _TD + "step.collectives",
    "string",
    "JSON, of at most the first 512 collectives: `kinds` are pairs of operation and group, `kind` is an index "
    "into them, `start` (from that of the step) and `duration` are µs; a duration that is not known is `null`",
    _NO_COLLECTIVE,
)
STEP_PAUSES: Final = Attribute(
    _TD + "step.pauses",
    "string",
    "JSON, of the longest pauses of at least 1 ms: `gc` (the garbage collector) or `data` (a data loader), start "
    "and duration in µs from the start of the step",
    "there was none, or they are not watched",
)

# --- what is in flight ------------------------------------------------------------------------------------

COLLECTIVE_AGE: Final = Attribute(_TD + "collective.age", "double", "how long it had been in flight", unit="s")
HEARTBEAT_AGE: Final = Attribute(
    _TD + "heartbeat.step_age", "double", "for how long the step has been open", "no step has ended so far", "s"
)
HEARTBEAT_IN_FLIGHT: Final = Attribute(
    _TD + "heartbeat.in_flight",
    "string",
    "JSON, of the 16 oldest collectives in flight: operation, group, sequence number, bytes, age in µs",
    "there was none",
)
HEARTBEAT_SEQUENCES: Final = Attribute(
    _TD + "heartbeat.sequences",
    "string",
    "JSON, by process group: the sequence number of the last collective that this rank began",
    "there was none",
)

# --- traffic with a peer ----------------------------------------------------------------------------------

_PEER_TRAFFIC: Final = "otel_netmon.peer."
_UNTOLD: Final = "the kernel does not tell"
PEER_RANK: Final = Attribute(_PEER_TRAFFIC + "rank", "int", "rank at the other end")
PEER_HOST: Final = Attribute(_PEER_TRAFFIC + "host", "string", "its host name, as it says itself", "not known")
PEER_INTERVAL: Final = Attribute(
    _PEER_TRAFFIC + "interval", "double", "since the reading before; what follows moved in that time", unit="s"
)
PEER_CONNECTIONS: Final = Attribute(_PEER_TRAFFIC + "connections", "int", "open connections between the two")
PEER_SENT: Final = Attribute(_PEER_TRAFFIC + "sent", "int", "bytes that the peer acknowledged", _UNTOLD, "By")
PEER_RECEIVED: Final = Attribute(_PEER_TRAFFIC + "received", "int", "bytes that came from the peer", _UNTOLD, "By")
PEER_SEGMENTS: Final = Attribute(
    _PEER_TRAFFIC + "segments", "int", "data segments sent, retransmissions included", _UNTOLD
)
PEER_RETRANSMITS: Final = Attribute(_PEER_TRAFFIC + "retransmits", "int", "segments sent again")
PEER_RTT: Final = Attribute(
    _PEER_TRAFFIC + "rtt",
    "double",
    "longest smoothed round-trip time of the connections that moved",
    "nothing moved",
    "s",
)
PEER_RTT_VARIATION: Final = Attribute(
    _PEER_TRAFFIC + "rtt.variation", "double", "largest mean deviation of those", "nothing moved", "s"
)
PEER_RTT_MIN: Final = Attribute(
    _PEER_TRAFFIC + "rtt.min", "double", "shortest round-trip time of the kernel's window", _UNTOLD, "s"
)
PEER_BUSY_TIME: Final = Attribute(
    _PEER_TRAFFIC + "busy_time", "double", "with data to send or unacknowledged", _UNTOLD, "s"
)
PEER_RWND_LIMITED_TIME: Final = Attribute(
    _PEER_TRAFFIC + "rwnd_limited_time", "double", "of that, held up by the peer's window", _UNTOLD, "s"
)
PEER_SNDBUF_LIMITED_TIME: Final = Attribute(
    _PEER_TRAFFIC + "sndbuf_limited_time", "double", "of that, held up by our send buffer", _UNTOLD, "s"
)
PEER_DELIVERY_RATE: Final = Attribute(
    _PEER_TRAFFIC + "delivery_rate",
    "int",
    "the kernel's estimate of the rate reached; the highest",
    _UNTOLD,
    "By/s",
)
PEER_BACKOFF: Final = Attribute(
    _PEER_TRAFFIC + "backoff", "int", "doublings of the retransmission timeout; the most"
)
PEER_UNACKED: Final = Attribute(_PEER_TRAFFIC + "unacked", "int", "bytes not acknowledged by the peer", unit="By")
PEER_UNREAD: Final = Attribute(
    _PEER_TRAFFIC + "unread", "int", "bytes arrived and not read by this process", unit="By"
)

STATE_IN_FLIGHT: Final = "in_flight"
STATE_LATE: Final = "late"
CLOCK_HOST: Final = "host"
CLOCK_DEVICE: Final = "device"

RESOURCE_ATTRIBUTES: Final = (
    Attribute(_host.HOST_NAME, "string", "the host's name"),
    Attribute(_process.PROCESS_PID, "int", "process id"),
    RANK,
    LOCAL_RANK,
    WORLD_SIZE,
)
"""Those of the resource detector ``otel_netmon``: the last three from when on they are known."""
