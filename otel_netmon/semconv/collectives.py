"""Metrics of collectives and steps, and the health of their capture."""

from __future__ import annotations

from typing import Final

from otel_netmon.semconv.attributes import BACKEND, COLLECTIVE_NAME, ERROR_TYPE, GROUP_NAME
from otel_netmon.semconv.model import BYTES_BUCKETS, SECONDS_BUCKETS, Metric

DROP_REASON: Final = "otel_netmon.drop.reason"

_COLLECTIVE: Final = (COLLECTIVE_NAME, BACKEND, GROUP_NAME, ERROR_TYPE)

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
    "torch.distributed.step.collective_time",
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
