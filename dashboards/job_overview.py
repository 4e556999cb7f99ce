"""The dashboard of a job: its steps and collectives, what is slow, and which rank is late."""

from __future__ import annotations

from typing import Final

from dashboards.model import (
    CULPRIT,
    GROUP,
    IN_GROUP,
    JOB,
    KIND,
    OPERATION,
    RANK,
    Dashboard,
    Panel,
    gauge,
    mean,
    per,
    quantile,
    rate,
)
from otel_netmon import semconv

_STEP = semconv.STEP_DURATION_METRIC
_DURATION = semconv.COLLECTIVE_DURATION_METRIC
_IN_COLLECTIVES = rate(_DURATION.prometheus_name + "_sum", IN_GROUP, f"job, {RANK}")

_STEPS: Final = (
    Panel(
        "Step time",
        "s",
        "Mean over all ranks, and the 99th percentile.",
        ((mean(_STEP, JOB, "job"), "{{job}} mean"), (quantile(_STEP, "0.99", JOB, "job"), "{{job}} p99")),
    ),
    Panel(
        "Communication share",
        "percentunit",
        "Share of step time with at least one collective in flight; includes waiting for late ranks.",
        (
            (
                f"{rate(semconv.STEP_COLLECTIVE_TIME_METRIC.prometheus_name, JOB, 'job, ' + RANK)}"
                f" / {rate(_STEP.prometheus_name + '_sum', JOB, 'job, ' + RANK)}",
                f"rank {per(RANK)}",
            ),
        ),
    ),
    Panel(
        "Culprits",
        "percentunit",
        "Share of the time that the job loses to whom the live diagnosis names, by kind. Its log events say in a "
        "sentence what is known of each.",
        (
            (
                f"topk(10, {rate(semconv.DIAGNOSIS_LOST_METRIC.prometheus_name, JOB, f'job, {KIND}, {CULPRIT}')})",
                per(CULPRIT, KIND),
            ),
        ),
        "bargauge",
    ),
    Panel(
        "Late ranks",
        "s",
        "Seconds per second that a rank spent less in collectives than the rank that spent most. The "
        "others wait for the late rank and it waits for nobody, so the late rank has the highest bar. "
        "If no bar stands out, no rank is late.",
        (
            (
                f"topk(10, max by (job) ({_IN_COLLECTIVES}) - on (job) group_right () {_IN_COLLECTIVES})",
                f"rank {per(RANK)}",
            ),
        ),
        "bargauge",
    ),
    Panel(
        "Ranks that export",
        "short",
        "If this is below the size of the job, ranks are gone, or their telemetry does not arrive.",
        ((f"count by (job) ({gauge(semconv.COLLECTIVE_ACTIVE_METRIC, JOB, 'job, ' + RANK)})", "{{job}}"),),
        "stat",
    ),
)

_COLLECTIVES: Final = (
    Panel(
        "Bus bandwidth",
        "Bps",
        "As nccl-tests defines it, over the last minute, including waiting; mean over the ranks.",
        ((gauge(semconv.WINDOW_BUSBW, IN_GROUP, f"{OPERATION}, {GROUP}", "avg"), per(OPERATION, GROUP)),),
    ),
    Panel(
        "Duration, median and p99",
        "s",
        "From the call to the completion, on each rank.",
        tuple(
            (quantile(_DURATION, q, IN_GROUP, OPERATION), f"{per(OPERATION)} {name}")
            for q, name in (("0.5", "p50"), ("0.99", "p99"))
        ),
    ),
    Panel(
        "Bytes",
        "Bps",
        "Sum over the buffers of all ranks.",
        (
            (
                rate(semconv.COLLECTIVE_IO_METRIC.prometheus_name, IN_GROUP, f"{OPERATION}, {GROUP}"),
                per(OPERATION, GROUP),
            ),
        ),
    ),
    Panel(
        "Oldest in flight",
        "s",
        "Age of a process group's oldest collective in flight: a hang is a line that keeps rising.",
        ((gauge(semconv.COLLECTIVE_AGE_METRIC, IN_GROUP, GROUP), f"group {per(GROUP)}"),),
    ),
    Panel(
        "Failed collectives",
        "ops",
        "By operation and type of error.",
        (
            (
                rate(
                    _DURATION.prometheus_name + "_count", IN_GROUP + ',error_type!=""', f"{OPERATION}, error_type"
                ),
                per(OPERATION, "error_type"),
            ),
        ),
    ),
)

JOB_OVERVIEW: Final = Dashboard(
    "job-overview",
    "otel-netmon: job overview",
    (("group", GROUP, semconv.COLLECTIVE_SIZE_METRIC),),
    (("Steps", _STEPS), ("Collectives", _COLLECTIVES)),
)
