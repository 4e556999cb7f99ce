"""Metrics of collectives and steps, and the health of their capture."""

from __future__ import annotations

from typing import Final

from otel_netmon.semconv.attributes import BACKEND, COLLECTIVE_NAME, ERROR_TYPE, GROUP_NAME
from otel_netmon.semconv.model import BYTES_BUCKETS, SECONDS_BUCKETS, Metric, counter, gauge, up_down_counter

DROP_REASON: Final = "otel_netmon.drop.reason"

_COLLECTIVE: Final = (COLLECTIVE_NAME, BACKEND, GROUP_NAME, ERROR_TYPE)

COLLECTIVE_DURATION_METRIC: Final = Metric(
    "torch.distributed.collective.duration",
    "histogram",
    "s",
    "Time from the call of a collective to its completion on this rank; on a device, its time there, if known.",
    _COLLECTIVE,
    SECONDS_BUCKETS,
)
COLLECTIVE_SIZE_METRIC: Final = Metric(
    "torch.distributed.collective.size",
    "histogram",
    "By",
    "Size of this rank's buffer in a collective.",
    _COLLECTIVE,
    BYTES_BUCKETS,
)
COLLECTIVE_IO_METRIC: Final = Metric(
    "torch.distributed.collective.io",
    "counter",
    "By",
    "Total size of this rank's buffers in collectives.",
    _COLLECTIVE,
)
COLLECTIVE_AGE_METRIC: Final = gauge(
    "torch.distributed.collective.in_flight.age",
    "s",
    "Age of the oldest collective in flight of a process group; absent if none is in flight.",
    (GROUP_NAME, BACKEND),
)
COLLECTIVE_ACTIVE_METRIC: Final = up_down_counter(
    "torch.distributed.collective.active",
    "{collective}",
    "Collectives in flight: started and not yet complete.",
    _COLLECTIVE[:3],
)

COLLECTIVE_ISSUED_METRIC: Final = gauge(
    "torch.distributed.collective.sequence.issued",
    "{collective}",
    "Number of the last collective that this rank issued on a process group: a rank that hangs stays behind.",
    (GROUP_NAME,),
)
COLLECTIVE_ENDED_METRIC: Final = gauge(
    "torch.distributed.collective.sequence.completed",
    "{collective}",
    "Number of the last collective that ended on this rank, of a process group.",
    (GROUP_NAME,),
)

STEP_DURATION_METRIC: Final = Metric(
    "torch.distributed.step.duration",
    "histogram",
    "s",
    "Duration of the training steps on this rank, sampled or not: that of `rank_step`.",
    (),
    SECONDS_BUCKETS,
)
STEP_COLLECTIVE_TIME_METRIC: Final = Metric(
    "torch.distributed.step.collective_time",
    "counter",
    "s",
    "Time within steps with at least one collective in flight. The late rank is the one with the least.",
)

# DistributedNetworkMonitor
WINDOW_COUNT: Final = gauge(
    "otel_netmon.collective.window.count",
    "{collective}",
    "Collectives completed in the last window.",
    _COLLECTIVE[:3],
)
WINDOW_P50: Final = gauge(
    "otel_netmon.collective.window.duration.p50",
    "s",
    "Median duration of the collectives in the last window.",
    _COLLECTIVE[:3],
)
WINDOW_P99: Final = gauge(
    "otel_netmon.collective.window.duration.p99",
    "s",
    "99th percentile of the duration of the collectives in the last window.",
    _COLLECTIVE[:3],
)
WINDOW_BUSBW: Final = gauge(
    "otel_netmon.collective.window.busbw",
    "By/s",
    "Mean bus bandwidth in the last window: bytes over time, times nccl-tests' factor.",
    _COLLECTIVE[:3],
)

# health of the capture engine
EVENTS_DROPPED: Final = counter(
    "otel_netmon.events.dropped",
    "{event}",
    "Collectives whose span was lost: `ring_full` is our ring or the Flight Recorder's, `error` an exception "
    "while recording or emitting.",
    (DROP_REASON,),
)
PEER_READINGS_DROPPED: Final = counter(
    "otel_netmon.peer.readings.dropped",
    "{reading}",
    "Readings of the traffic with a peer that were not exported: no step covers them, or its step was not sampled "
    "and there is no logs exporter.",
)
DROP_RING_FULL: Final = "ring_full"
DROP_ERROR: Final = "error"
