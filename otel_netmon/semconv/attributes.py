"""What spans and log events say of collectives, of steps, and of the traffic with a peer."""

from __future__ import annotations

from functools import partial
from typing import Final

from opentelemetry.semconv._incubating.attributes import host_attributes as _host
from opentelemetry.semconv._incubating.attributes import network_attributes as _network
from opentelemetry.semconv._incubating.attributes import process_attributes as _process
from opentelemetry.semconv._incubating.attributes import service_attributes as _service
from opentelemetry.semconv.attributes import error_attributes as _error
from opentelemetry.semconv.attributes import network_attributes as _net

from otel_netmon.semconv.model import Attribute

_text: Final = partial(Attribute, type="string")
_flag: Final = partial(Attribute, type="boolean")
_integer: Final = partial(Attribute, type="int")
_bytes: Final = partial(Attribute, type="int", unit="By")
_rate: Final = partial(Attribute, type="double", unit="By/s")
_seconds: Final = partial(Attribute, type="double", unit="s")

_NO_TENSOR: Final = "the operation has no buffer"
_NO_RATE: Final = "the true duration is not known, or it failed"

# --- one collective ---------------------------------------------------------------------------------------

COLLECTIVE_NAME: Final = _text("torch.distributed.collective.name", "operation, by its PyTorch name: `all_reduce`")
COLLECTIVE_SEQUENCE: Final = _integer(
    "torch.distributed.collective.sequence",
    "the group's count of collectives: the same on every rank",
    "between two ranks: not counted",
)
COLLECTIVE_SIZE: Final = _bytes(
    "torch.distributed.collective.size", "bytes of this rank's buffer, as nccl-tests counts it", _NO_TENSOR
)
COLLECTIVE_ELEMENT_COUNT: Final = _integer(
    "torch.distributed.collective.element_count",
    "elements in that buffer",
    "no tensor, or tensors of several types",
)
COLLECTIVE_DTYPE: Final = _text(
    "torch.distributed.collective.dtype", "element type: `float32`", "no tensor, or tensors of several types"
)
COLLECTIVE_REDUCE_OP: Final = _text(
    "torch.distributed.collective.reduce_op", "`sum`, `avg`, `max`, …", "nothing is reduced, or torch does not say"
)
COLLECTIVE_ASYNC: Final = _flag(
    "torch.distributed.collective.async", "true when the caller asked not to block", "torch does not say"
)
COLLECTIVE_ALGBW: Final = _rate("torch.distributed.collective.algbw", "size over duration", _NO_RATE)
COLLECTIVE_BUSBW: Final = _rate(
    "torch.distributed.collective.busbw",
    "algbw times nccl-tests' factor for the operation and group",
    _NO_RATE + ", or there is no formula: unequal splits, say",
)
COLLECTIVE_CLOCK: Final = _text(
    "torch.distributed.collective.clock",
    "`host`: from the call to its completion as the host saw it (on a device without timing: the call alone); "
    "`device`: bandwidths and the metric are of the device's time",
)
COLLECTIVE_DEVICE_DURATION: Final = _seconds(
    "torch.distributed.collective.device_duration",
    "time on the device, by the Flight Recorder",
    "on the host, or not timed",
)
COLLECTIVE_DEVICE_BOUND: Final = _seconds(
    "torch.distributed.collective.device_bound",
    "from the enqueueing until the Flight Recorder's watchdog noticed the end: it took no longer",
    "on the host, or its duration is known, or nothing is",
)
COLLECTIVE_STATE: Final = _text(
    "torch.distributed.collective.state",
    "`in_flight` when the process ended first; `late` when the end is only a bound",
    "it ended when the span does",
)
GROUP_NAME: Final = _text(
    "torch.distributed.group.name", "process group's name in torch: `0` is the default group"
)
GROUP_SIZE: Final = _integer("torch.distributed.group.size", "ranks in the group", "the group does not say")
GROUP_RANK: Final = _integer(
    "torch.distributed.group.rank", "this process's rank within the group", "the group does not say"
)
BACKEND: Final = _text("torch.distributed.backend", "`gloo`, `nccl`, …")
ERROR_TYPE: Final = _text(_error.ERROR_TYPE, "class of the failure", "success")
COLLECTIVE_ERROR_MESSAGE: Final = _text(
    "torch.distributed.collective.error.message",
    "what the failure says, its first 255 characters; gloo's often name the peer",
    "success, or it says nothing, or `OTEL_NETMON_ERROR_MESSAGES=off`",
)

# --- the rank ---------------------------------------------------------------------------------------------

RANK: Final = _integer("torch.distributed.rank", "global rank", "the process has none")
LOCAL_RANK: Final = _integer("torch.distributed.local_rank", "rank within the host", "the launcher does not say")
WORLD_SIZE: Final = _integer("torch.distributed.world_size", "ranks in the job", "the process has no rank")
RUN_ID: Final = _text("torch.distributed.run.id", "the run's id, the same on every rank")
ATTEMPT: Final = _integer(
    "torch.distributed.run.attempt", "how many times an elastic launcher restarted the ranks", "the first attempt"
)

# --- a step on a rank -------------------------------------------------------------------------------------

_NO_COLLECTIVE: Final = "there was none"
_UNREAD: Final = "this system does not tell, or it is no step"
STEP: Final = _integer("torch.distributed.step", "training step, from 0: this rank's count", "it is no step")
STEP_INCOMPLETE: Final = _flag(
    "torch.distributed.step.incomplete", "true on the step that was open when the process ended", "it is complete"
)
STEP_START: Final = _integer(
    "torch.distributed.step.start", "when it started, in ns since the epoch; on the log event", "on the span", "ns"
)
STEP_SAMPLED: Final = _flag(
    "torch.distributed.step.sampled", "whether spans were made of this rank's collectives in it"
)
STEP_FIRST_COLLECTIVE: Final = _seconds(
    "torch.distributed.step.first_collective",
    "from the start of the step to its first collective on this rank",
    _NO_COLLECTIVE,
)
STEP_COLLECTIVE_COUNT: Final = _integer(
    "torch.distributed.step.collective_count", "collectives that this rank began in the step"
)
STEP_COLLECTIVE_SIZE: Final = _bytes(
    "torch.distributed.step.collective_size", "sum of their `torch.distributed.collective.size`"
)
STEP_COLLECTIVE_TIME: Final = _seconds(
    "torch.distributed.step.collective_time", "time of the step with at least one of them in flight"
)
STEP_ISSUE_TIME: Final = _seconds(
    "torch.distributed.step.issue_time",
    "from the start of the step to that of its last asynchronous collective, without the collectives before that "
    "their caller was blocked in: what this rank needed until all was on its way",
    "none is asynchronous, or it is no step",
)
STEP_WAIT_TIME: Final = _seconds(
    "torch.distributed.step.wait_time",
    "the main thread in `Work.wait`; waits within C++ (DDP's) are not seen",
    _UNREAD,
)
STEP_GC_TIME: Final = _seconds("torch.distributed.step.gc_time", "Python's garbage collector", _UNREAD)
STEP_DATA_TIME: Final = _seconds(
    "torch.distributed.step.data_time", "the main thread in `__next__` of a `DataLoader`", _UNREAD
)
STEP_CPU_TIME: Final = _seconds("torch.distributed.step.cpu_time", "on a CPU, all threads of the process", _UNREAD)
STEP_RUN_QUEUE_TIME: Final = _seconds(
    "torch.distributed.step.run_queue_time", "the main thread ready to run, and waiting for a CPU", _UNREAD
)
STEP_THROTTLED_TIME: Final = _seconds(
    "torch.distributed.step.throttled_time",
    "the process's cgroup, or one above it, stopped by a CPU quota, summed over its CPUs",
    "there is no quota, or it is no step",
)
STEP_SWITCHES_VOLUNTARY: Final = _integer(
    "torch.distributed.step.context_switches.voluntary",
    "context switches of the process because it waited for something",
    _UNREAD,
)
STEP_SWITCHES_INVOLUNTARY: Final = _integer(
    "torch.distributed.step.context_switches.involuntary",
    "context switches of the process because it lost the CPU",
    _UNREAD,
)
STEP_GROUPS: Final = _text(
    "torch.distributed.step.groups",
    "JSON, by process group: name, collectives, their bytes, the sum of their durations in µs, the last sequence "
    "number, its ranks; `null` is not known",
    _NO_COLLECTIVE,
)
STEP_COLLECTIVES: Final = _text(
    "torch.distributed.step.collectives",
    "JSON, of at most the first 512 collectives: `kinds` are pairs of operation and group, `kind` is an index "
    "into them, `after` (the start of the one before, or of the step) and `duration` are µs; a duration that is "
    "not known is `null`",
    _NO_COLLECTIVE,
)
STEP_PAUSES: Final = _text(
    "torch.distributed.step.pauses",
    "JSON, of the longest pauses of at least 1 ms: `gc` (the garbage collector) or `data` (a data loader), start "
    "and duration in µs from the start of the step",
    "there was none, or they are not watched",
)

# --- what is in flight ------------------------------------------------------------------------------------

COLLECTIVE_AGE: Final = _seconds("torch.distributed.collective.age", "how long it had been in flight")
HEARTBEAT_AGE: Final = _seconds(
    "torch.distributed.heartbeat.step_age", "for how long the step has been open", "no step has ended so far"
)
HEARTBEAT_IN_FLIGHT: Final = _text(
    "torch.distributed.heartbeat.in_flight",
    "JSON, of the 16 oldest collectives in flight: operation, group, sequence number, bytes, age in µs",
    "there was none",
)
HEARTBEAT_SEQUENCES: Final = _text(
    "torch.distributed.heartbeat.sequences",
    "JSON, by process group: the sequence number of the last collective that this rank began",
    "there was none",
)

# --- how a rank ended -------------------------------------------------------------------------------------

RANK_PID: Final = _integer(
    "torch.distributed.rank.pid", "process id of the rank, on the host whose launcher tells of it"
)
EXIT_CODE: Final = _integer(
    _process.PROCESS_EXIT_CODE, "exit code", "a signal ended it, or nobody knows: its parent took the status"
)
EXIT_SIGNAL: Final = _integer(
    "torch.distributed.rank.exit.signal", "number of the signal that ended it", "no signal did, or nobody knows"
)
LAST_CALLS: Final = _text(
    "torch.distributed.rank.calls",
    "JSON, of its last collectives, oldest first: operation, group, sequence number, bytes, µs from the call to "
    "the time of the event, µs that it took (`null`: it is not known to have ended), class of the failure",
    _NO_COLLECTIVE,
)

# --- traffic with a peer ----------------------------------------------------------------------------------

_UNTOLD: Final = "the kernel does not tell"
PEER_RANK: Final = _integer("otel_netmon.peer.rank", "rank at the other end")
PEER_HOST: Final = _text("otel_netmon.peer.host", "its host name, as it says itself", "not known")
PEER_ADDRESS: Final = _text(
    _net.NETWORK_PEER_ADDRESS, "address of the peer: of the busiest of those connections", "not known"
)
PEER_INTERVAL: Final = _seconds(
    "otel_netmon.peer.interval", "since the reading before; what follows moved in that time"
)
PEER_CONNECTIONS: Final = _integer("otel_netmon.peer.connections", "open connections between the two")
PEER_SENT: Final = _bytes("otel_netmon.peer.sent", "bytes that the peer acknowledged", _UNTOLD)
PEER_RECEIVED: Final = _bytes("otel_netmon.peer.received", "bytes that came from the peer", _UNTOLD)
PEER_SEGMENTS: Final = _integer(
    "otel_netmon.peer.segments", "data segments sent, retransmissions included", _UNTOLD
)
PEER_RETRANSMITS: Final = _integer("otel_netmon.peer.retransmits", "segments sent again")
PEER_RTT: Final = _seconds(
    "otel_netmon.peer.rtt", "longest smoothed round-trip time of the connections that moved", "nothing moved"
)
PEER_RTT_VARIATION: Final = _seconds(
    "otel_netmon.peer.rtt.variation", "largest mean deviation of those", "nothing moved"
)
PEER_RTT_SHORTEST: Final = _seconds(
    "otel_netmon.peer.rtt.shortest", "shortest smoothed round-trip time of those", "nothing moved"
)
PEER_RTT_MIN: Final = _seconds(
    "otel_netmon.peer.rtt.min", "shortest round-trip time of the kernel's window", _UNTOLD
)
PEER_BUSY_TIME: Final = _seconds("otel_netmon.peer.busy_time", "with data to send or unacknowledged", _UNTOLD)
PEER_RWND_LIMITED_TIME: Final = _seconds(
    "otel_netmon.peer.rwnd_limited_time", "of that, held up by the peer's window", _UNTOLD
)
PEER_SNDBUF_LIMITED_TIME: Final = _seconds(
    "otel_netmon.peer.sndbuf_limited_time", "of that, held up by our send buffer", _UNTOLD
)
PEER_DELIVERY_RATE: Final = _integer(
    "otel_netmon.peer.delivery_rate", "the kernel's estimate of the rate reached; the highest", _UNTOLD, "By/s"
)
PEER_BACKOFF: Final = _integer("otel_netmon.peer.backoff", "doublings of the retransmission timeout; the most")
PEER_UNACKED: Final = _bytes("otel_netmon.peer.unacked", "bytes not acknowledged by the peer")
PEER_UNREAD: Final = _bytes("otel_netmon.peer.unread", "bytes arrived and not read by this process")

# --- traffic of a NIC -------------------------------------------------------------------------------------

INTERFACE: Final = _text(_network.NETWORK_INTERFACE_NAME, "name of a NIC")
NIC_INTERVAL: Final = _seconds(
    "otel_netmon.nic.interval", "since the reading before; what follows moved in that time"
)
NIC_SENT: Final = _bytes("otel_netmon.nic.sent", "bytes that the NIC sent, headers included")
NIC_RECEIVED: Final = _bytes("otel_netmon.nic.received", "bytes that the NIC received, headers included")
NIC_JOB_SENT: Final = _bytes(
    "otel_netmon.nic.job_sent",
    "of that, what peers of this process acknowledged to its TCP connections of the job",
)
NIC_JOB_RECEIVED: Final = _bytes(
    "otel_netmon.nic.job_received", "of that, what came to this process by its TCP connections of the job"
)

FORMER: Final = {
    "otel_netmon.tcp.interval": PEER_INTERVAL,
    "otel_netmon.tcp.connections": PEER_CONNECTIONS,
    "otel_netmon.tcp.sent": PEER_SENT,
    "otel_netmon.tcp.received": PEER_RECEIVED,
    "otel_netmon.tcp.segments": PEER_SEGMENTS,
    "otel_netmon.tcp.retransmits": PEER_RETRANSMITS,
    "otel_netmon.tcp.rtt": PEER_RTT,
    "otel_netmon.tcp.rtt.variation": PEER_RTT_VARIATION,
    "otel_netmon.tcp.rtt.min": PEER_RTT_MIN,
    "otel_netmon.tcp.busy.time": PEER_BUSY_TIME,
    "otel_netmon.tcp.rwnd_limited.time": PEER_RWND_LIMITED_TIME,
    "otel_netmon.tcp.sndbuf_limited.time": PEER_SNDBUF_LIMITED_TIME,
    "otel_netmon.tcp.delivery_rate": PEER_DELIVERY_RATE,
    "otel_netmon.tcp.backoff": PEER_BACKOFF,
    "otel_netmon.tcp.unacked": PEER_UNACKED,
    "otel_netmon.tcp.unread": PEER_UNREAD,
}
"""Names of version 0.1.0 and what they are called now; files with them are still read."""

STATE_IN_FLIGHT: Final = "in_flight"
STATE_LATE: Final = "late"
CLOCK_HOST: Final = "host"
CLOCK_DEVICE: Final = "device"

SERVICE_INSTANCE: Final = _text(_service.SERVICE_INSTANCE_ID, "the process's id, drawn by the SDK")
SERVICE_NAME: Final = _text(_service.SERVICE_NAME, "the job's name")
HOST_NAME: Final = _text(_host.HOST_NAME, "the host's name")
PROCESS_ID: Final = _integer(_process.PROCESS_PID, "process id")

RESOURCE_ATTRIBUTES: Final = (HOST_NAME, PROCESS_ID, RANK, LOCAL_RANK, WORLD_SIZE)
"""Those of the resource detector ``otel_netmon``: the last three from when on they are known."""
