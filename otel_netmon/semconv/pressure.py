"""What on a host looks like a slow network: its protocols' own counts, packet queues, pressure, quotas."""

from __future__ import annotations

from typing import Final

from opentelemetry.semconv.attributes import error_attributes as _error

from otel_netmon.semconv.attributes import INTERFACE
from otel_netmon.semconv.model import counter, gauge
from otel_netmon.semconv.monitors import DIRECTION

PRESSURE_RESOURCE: Final = "otel_netmon.pressure.resource"
PRESSURE_KIND: Final = "otel_netmon.pressure.kind"

_DIRECTED: Final = (DIRECTION,)

# KernelNetworkMonitor
HOST_TCP_SEGMENTS: Final = counter(
    "otel_netmon.host.tcp.segments",
    "{segment}",
    "TCP segments of the network namespace; those sent are without retransmissions.",
    _DIRECTED,
)
HOST_TCP_RETRANSMITS: Final = counter("otel_netmon.host.tcp.retransmits", "{segment}", "TCP segments sent again.")
HOST_TCP_TIMEOUTS: Final = counter(
    "otel_netmon.host.tcp.timeouts", "{timeout}", "Retransmission timers that ran out: the costly kind of loss."
)
HOST_TCP_OUT_OF_ORDER: Final = counter(
    "otel_netmon.host.tcp.out_of_order", "{segment}", "TCP segments that came before those in front of them."
)
HOST_TCP_ERRORS: Final = counter("otel_netmon.host.tcp.errors", "{segment}", "TCP segments received damaged.")
HOST_TCP_LISTEN_DROPS: Final = counter(
    "otel_netmon.host.tcp.listen_drops",
    "{connection}",
    "Connections refused for want of room in the queue of a listening socket.",
)
HOST_IP_DISCARDS: Final = counter(
    "otel_netmon.host.ip.discards",
    "{packet}",
    "IP packets without fault that were dropped, for want of memory say.",
    _DIRECTED,
)
HOST_UDP_BUFFER_ERRORS: Final = counter(
    "otel_netmon.host.udp.buffer_errors",
    "{packet}",
    "UDP packets dropped as a socket's buffer was full.",
    _DIRECTED,
)
SOFTNET_PROCESSED: Final = counter(
    "otel_netmon.host.softnet.processed",
    "{packet}",
    "Packets that the host's CPUs took from the queues of NICs, in all network namespaces.",
)
SOFTNET_DROPPED: Final = counter(
    "otel_netmon.host.softnet.dropped", "{packet}", "Packets that the host dropped as a CPU's backlog was full."
)
SOFTNET_SQUEEZED: Final = counter(
    "otel_netmon.host.softnet.squeezed",
    "{event}",
    "How often a CPU ran out of budget with packets left in a queue.",
)
NIC_FAULTS: Final = counter(
    "otel_netmon.nic.faults",
    "{event}",
    "What a physical NIC counts as gone wrong, by the kernel's names: `rx_crc_errors`, `rx_missed_errors`, …",
    (INTERFACE, _error.ERROR_TYPE),
)
NIC_CARRIER_CHANGES: Final = counter(
    "otel_netmon.nic.carrier_changes",
    "{change}",
    "How often the link of a physical NIC went down or came up.",
    (INTERFACE,),
)

# PressureMonitor
PRESSURE_STALL: Final = counter(
    "otel_netmon.pressure.stall.time",
    "s",
    "Time in which some, or all, tasks of the host waited for a resource: `cpu`, `memory`, `io`.",
    (PRESSURE_RESOURCE, PRESSURE_KIND),
)
HOST_RUN_QUEUE: Final = counter(
    "otel_netmon.host.run_queue.time",
    "s",
    "Time that tasks were ready and waited for a CPU, summed over all CPUs of the host.",
)

# ProcessPressureMonitor
PROCESS_RUN_QUEUE: Final = counter(
    "otel_netmon.process.run_queue.time", "s", "Time that threads of this process were ready and waited for a CPU."
)
CGROUP_STALL: Final = counter(
    "otel_netmon.cgroup.stall.time",
    "s",
    "Time in which some, or all, tasks of this process's cgroup waited for a resource.",
    (PRESSURE_RESOURCE, PRESSURE_KIND),
)
CGROUP_THROTTLED: Final = counter(
    "otel_netmon.cgroup.throttled.time",
    "s",
    "Time that this process's cgroup was stopped by a CPU quota, its own or one above.",
)
CGROUP_PERIODS: Final = counter("otel_netmon.cgroup.periods", "{period}", "Periods of that quota.")
CGROUP_THROTTLED_PERIODS: Final = counter(
    "otel_netmon.cgroup.throttled.periods", "{period}", "Periods in which that quota ran out."
)
CGROUP_LIMIT: Final = gauge("otel_netmon.cgroup.cpu.limit", "{cpu}", "The lowest CPU quota on this process.")
