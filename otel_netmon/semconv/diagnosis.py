"""What the diagnosis says while a job runs: a log event, and metrics."""

from __future__ import annotations

from functools import partial
from typing import Final

from otel_netmon.semconv.model import Attribute, Metric, gauge

_text: Final = partial(Attribute, type="string")

EVENT_DIAGNOSIS: Final = "otel_netmon.diagnosis"
"""Name of the log event of a finding that came, or that is over."""

DIAGNOSIS_KIND: Final = _text(
    "otel_netmon.diagnosis.kind", "what is wrong: `slow_rank`, `slow_link`, `hung_rank`, …"
)
DIAGNOSIS_CAUSE: Final = _text(
    "otel_netmon.diagnosis.cause", "why: `input`, `CPU quota`, …", "the evidence does not tell, or it is no rank"
)
DIAGNOSIS_RANKS: Final = _text("otel_netmon.diagnosis.ranks", "the culprits, as `2` or `2,3`", "it is no rank")
DIAGNOSIS_HOSTS: Final = _text(
    "otel_netmon.diagnosis.hosts", "the culprit's hosts, or those whose link it is, as `a` or `a,b`", "not known"
)
DIAGNOSIS_DIRECTION: Final = _text(
    "otel_netmon.diagnosis.direction", "of a link, as its host sees it: `transmit`, `receive`, `both`", "not told"
)
DIAGNOSIS_CONFIDENCE: Final = _text("otel_netmon.diagnosis.confidence", "`high`, `medium` or `low`")
DIAGNOSIS_FIRST_STEP: Final = Attribute(
    "otel_netmon.diagnosis.first_step", "from which step on it was seen", "it is of no step", type="int"
)
DIAGNOSIS_LAST_STEP: Final = Attribute(
    "otel_netmon.diagnosis.last_step", "the last step in which it was seen", "it is of no step", type="int"
)
DIAGNOSIS_LOST: Final = Attribute(
    "otel_netmon.diagnosis.lost",
    "what each step (or the one step) would take less, had the culprit been like the median",
    "not known",
    "s",
    type="double",
)
DIAGNOSIS_OVER: Final = Attribute("otel_netmon.diagnosis.over", "whether it is over", type="boolean")

DIAGNOSIS_CULPRIT: Final = "otel_netmon.diagnosis.culprit"
"""Of metrics: `rank 2`, or the host."""

DIAGNOSIS_LOST_METRIC: Final = Metric(
    "otel_netmon.diagnosis.lost_time",
    "observable_counter",
    "s",
    "Time that steps took longer for a culprit, as the live diagnosis on one rank of the job saw it.",
    (DIAGNOSIS_KIND, DIAGNOSIS_CULPRIT),
)
DIAGNOSIS_ACTIVE_METRIC: Final = gauge(
    "otel_netmon.diagnosis.active",
    "1",
    "1 for each finding that stands now; absent if there is none.",
    (DIAGNOSIS_KIND, DIAGNOSIS_CULPRIT),
)
DIAGNOSIS_DURATION_METRIC: Final = gauge(
    "otel_netmon.diagnosis.duration", "s", "Time that the last look of the live diagnosis took."
)
DIAGNOSIS_RANKS_METRIC: Final = gauge(
    "otel_netmon.diagnosis.heard", "{rank}", "Ranks that the live diagnosis has heard of lately."
)
