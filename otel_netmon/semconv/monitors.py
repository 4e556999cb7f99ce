"""The five monitors and the health of all."""

from __future__ import annotations

from typing import Final

from opentelemetry.semconv._incubating.attributes import hw_attributes as _hw
from opentelemetry.semconv._incubating.attributes import network_attributes as _net
from opentelemetry.semconv.attributes import server_attributes as _server

from otel_netmon.semconv.attributes import INTERFACE
from otel_netmon.semconv.model import SECONDS_BUCKETS, Metric, counter, gauge, up_down_counter

# --- attributes -------------------------------------------------------------------------------------------

SERVER_ADDRESS: Final = _server.SERVER_ADDRESS
SERVER_PORT: Final = _server.SERVER_PORT

DIRECTION: Final = _net.NETWORK_IO_DIRECTION
DIRECTION_RECEIVE: Final = _net.NetworkIoDirectionValues.RECEIVE.value
DIRECTION_TRANSMIT: Final = _net.NetworkIoDirectionValues.TRANSMIT.value
DEVICE: Final = "system.device"
HW_ID: Final = _hw.HW_ID
HW_NAME: Final = _hw.HW_NAME

MONITOR_NAME: Final = "otel_netmon.monitor.name"


_NIC = (INTERFACE, DIRECTION)
_HW = (HW_ID, HW_NAME, DIRECTION)
_TARGET = (SERVER_ADDRESS, SERVER_PORT)
_MONITOR = (MONITOR_NAME,)

# NetworkInterfaceMonitor
NIC_IO: Final = counter("system.network.io", "By", "Bytes a NIC sent and received.", _NIC)
NIC_PACKETS: Final = counter(
    "system.network.packet.count", "{packet}", "Packets a NIC sent and received.", (DEVICE, DIRECTION)
)
NIC_DROPPED: Final = counter("system.network.packet.dropped", "{packet}", "Packets a NIC dropped.", _NIC)
NIC_ERRORS: Final = counter("system.network.errors", "{error}", "Errors a NIC counted.", _NIC)
NIC_UP: Final = up_down_counter(
    "hw.network.up", "1", "1 when the port of a physical NIC is up, 0 when it is down.", (HW_ID, HW_NAME)
)
NIC_LIMIT: Final = up_down_counter(
    "hw.network.bandwidth.limit", "By/s", "Link speed of a physical NIC.", (HW_ID, HW_NAME)
)
NIC_UTILIZATION: Final = gauge(
    "hw.network.bandwidth.utilization",
    "1",
    "Share of a physical NIC's link speed in use, per direction, over the last window.",
    _HW,
)

# NetworkBandwidthMonitor
THROUGHPUT: Final = gauge(
    "otel_netmon.network.throughput",
    "By/s",
    "Bytes per second over all selected NICs, per direction, over the last window.",
    (DIRECTION,),
)
THROUGHPUT_PEAK: Final = gauge(
    "otel_netmon.network.throughput.peak", "By/s", "Highest throughput seen since the start.", (DIRECTION,)
)
LINK_UTILIZATION: Final = gauge(
    "otel_netmon.network.utilization",
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
LATENCY_MEAN: Final = gauge("otel_netmon.network.latency.mean", "s", "Mean connect time, last round.", _TARGET)
LATENCY_MIN: Final = gauge("otel_netmon.network.latency.min", "s", "Shortest connect time, last round.", _TARGET)
LATENCY_MAX: Final = gauge("otel_netmon.network.latency.max", "s", "Longest connect time, last round.", _TARGET)
LATENCY_JITTER: Final = gauge(
    "otel_netmon.network.latency.jitter",
    "s",
    "Mean absolute difference of successive connect times, last round.",
    _TARGET,
)
LATENCY_LOSS: Final = gauge(
    "otel_netmon.network.latency.loss", "1", "Share of attempts that got no connection, last round.", _TARGET
)

# health of the monitors
MONITOR_SUCCESS: Final = gauge(
    "otel_netmon.monitor.success", "1", "1 when the last sample worked, else 0.", _MONITOR
)
MONITOR_DURATION: Final = gauge("otel_netmon.monitor.duration", "s", "How long the last sample took.", _MONITOR)
MONITOR_AGE: Final = gauge("otel_netmon.monitor.age", "s", "Age of the data last sampled.", _MONITOR)
