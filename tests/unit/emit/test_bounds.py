"""Names from outside cannot blow up memory or the backend: 10,000 groups, names of any length and bytes."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from otel_netmon import semconv
from otel_netmon.capture.event import CollectiveEvent, CollectiveKind
from otel_netmon.capture.operations import Operation
from otel_netmon.capture.ring import EventRing
from otel_netmon.emit.emitter import Emitter
from otel_netmon.emit.metrics import MOST_SERIES, CollectiveMetrics
from otel_netmon.emit.spans import SpanWriter
from otel_netmon.job.groups import Group, Groups
from otel_netmon.job.steps import Step, StepMarks
from otel_netmon.text import bounded
from otel_netmon.threads import Pace
from tests.unit.emit.a_rank import ALL_REDUCE, job_of, settings_with

OVERFLOW = "otel.metric.overflow"
GROUPS = 10_000


class Unpaced(Pace):
    """Nobody else wants the interpreter lock here."""

    def rest(self, seconds: float) -> None:
        """Not at all."""


@pytest.mark.row("10,000 groups or NICs with random names")
def test_ten_thousand_groups_are_two_thousand_series_and_one_more() -> None:
    reader, ring = InMemoryMetricReader(), EventRing(1000)
    provider = MeterProvider([reader])
    sink = CollectiveMetrics.of(provider, ring)
    emitter = Emitter(sink, SpanWriter(TracerProvider()), settings_with(ring_size=100), job_of(0), pace=Unpaced())
    for number in range(GROUPS):
        kind = CollectiveKind(ALL_REDUCE, Group(f"group {number}", 2, 0, "gloo"), 400)
        event = CollectiveEvent(kind, 1000, number)
        event.end = 2000
        emitter.marks(StepMarks([Step(number, last_boundary=number + 1, start=0, end=3000)], number + 1, number))
        emitter.take([event])
        emitter.emit("run")
    assert len(emitter._attribute_sets) <= MOST_SERIES and len(sink._seen) <= MOST_SERIES
    data: Any = reader.get_metrics_data()
    metrics = {
        m.name: m.data.data_points for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics
    }
    for metric in (
        semconv.COLLECTIVE_DURATION_METRIC,
        semconv.COLLECTIVE_SIZE_METRIC,
        semconv.COLLECTIVE_IO_METRIC,
    ):
        points = metrics[metric.name]
        assert len(points) <= MOST_SERIES + 1
        (overflow,) = (point for point in points if OVERFLOW in point.attributes)
        named = [point for point in points if OVERFLOW not in point.attributes]
        if metric.kind == "histogram":  # nothing is lost in the sum
            assert overflow.count + sum(point.count for point in named) == GROUPS
        else:
            assert overflow.value + sum(point.value for point in named) == GROUPS * 400
    assert len(metrics[semconv.COLLECTIVE_ACTIVE_METRIC.name]) <= MOST_SERIES + 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("eth0", "eth0"),
        ("näme", "näme"),
        ("a\udcffb", "a?b"),
        ("x" * 10_000, "x" * 255),
        ("\U0001f600", "\U0001f600"),
    ],
)
def test_text_is_bounded_and_valid(text: str, expected: str) -> None:
    assert bounded(text) == expected
    expected.encode()


def test_a_groups_name_is_bounded() -> None:
    class ProcessGroup:
        group_name = "g\udcff" + "x" * 5000

        def size(self) -> int:
            return 2

        def rank(self) -> int:
            return 0

        def name(self) -> str:
            return "gloo"

        def _get_backend(self, device: Any) -> Any:
            return self

    group = Groups().of(ProcessGroup())
    assert len(group.name) == 255 and group.name.startswith("g?xx")
    assert isinstance(ALL_REDUCE, Operation)
