"""Events to spans and metrics, without torch: ids, sampling, failures, and what waits for what."""

from __future__ import annotations

import time
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler, TraceIdRatioBased

from otel_netmon import semconv
from otel_netmon.capture.event import CollectiveEvent, CollectiveKind
from otel_netmon.capture.ring import EventRing
from otel_netmon.emit.intervals import StepResolver
from otel_netmon.emit.metrics import CollectiveMetrics
from otel_netmon.job import identity, peers
from otel_netmon.job.steps import SETUP, Step, StepMarks
from otel_netmon.records import PeerTraffic, ResourceUsage
from tests.unit.emit.a_rank import ALL_REDUCE, FLOAT32, RUN, STEP, Rank, by_name, context


def test_the_whole_of_a_step() -> None:
    rank = Rank()
    spans = by_name(rank.play(STEP, events=[rank.event()]))
    root, rank_step, collective = spans["train_step"], spans["rank_step"], spans["all_reduce"]
    assert root.parent is None
    assert rank_step.parent is not None and rank_step.parent.span_id == context(root).span_id
    assert collective.parent is not None and collective.parent.span_id == context(rank_step).span_id
    assert {context(span).trace_id for span in spans.values()} == {identity.trace_id(RUN, "0")}
    assert collective.end_time is not None and collective.start_time is not None
    assert collective.end_time - collective.start_time == 1000
    assert collective.attributes is not None
    assert dict(collective.attributes) == {
        semconv.COLLECTIVE_NAME: "all_reduce",
        semconv.COLLECTIVE_SEQUENCE: 7,
        semconv.COLLECTIVE_SIZE: 4000,
        semconv.COLLECTIVE_ELEMENT_COUNT: 1000,
        semconv.COLLECTIVE_DTYPE: "float32",
        semconv.COLLECTIVE_CLOCK: "host",
        semconv.COLLECTIVE_ALGBW: 4e9,
        semconv.COLLECTIVE_BUSBW: 6e9,
        semconv.GROUP_NAME: "0",
        semconv.GROUP_SIZE: 4,
        semconv.GROUP_RANK: 0,
        semconv.BACKEND: "gloo",
        semconv.RANK: 0,
    }
    assert rank_step.attributes is not None
    assert rank_step.attributes[semconv.STEP] == 0
    assert rank_step.attributes[semconv.RUN_ID] == RUN


def test_a_rank_step_says_what_happened_in_it() -> None:
    rank = Rank()
    step = Step(0, last_boundary=1, start=1000, end=90_000, used=ResourceUsage(gc=2_000_000_000, voluntary=3))
    events = [rank.event(start=2000, end=5000), rank.event(start=4000, end=6000), rank.event(start=8000, end=9000)]
    spans = by_name(rank.play(step, events=events))
    attributes = spans["rank_step"].attributes
    assert attributes is not None
    assert attributes[semconv.STEP_COLLECTIVE_COUNT] == 3
    assert attributes[semconv.STEP_COLLECTIVE_SIZE] == 12000
    assert attributes[semconv.STEP_COLLECTIVE_TIME] == pytest.approx(5e-6)  # overlaps count once
    assert attributes[semconv.STEP_FIRST_COLLECTIVE] == pytest.approx(1e-6)
    assert attributes[semconv.STEP_GC_TIME] == 2
    assert attributes[semconv.STEP_SWITCHES_VOLUNTARY] == 3
    assert semconv.STEP_CPU_TIME not in attributes  # not read
    root = spans["train_step"].attributes
    assert root is not None and semconv.STEP_COLLECTIVE_COUNT not in root


def test_what_waits_is_looked_at_again_only_when_there_are_new_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    rank, of = Rank(hold=1000), StepResolver.of
    looked_at = []

    def looking(resolver: StepResolver, event: CollectiveEvent) -> Any:
        looked_at.append(event)
        return of(resolver, event)

    monkeypatch.setattr(StepResolver, "of", looking)
    rank.emitter.marks(StepMarks([], 0, settled=-1))
    for _ in range(50):
        rank.emitter.take([rank.event(boundary=0) for _ in range(10)])
        rank.emitter.emit(RUN)
    assert len(looked_at) == 500 and rank.exported.get_finished_spans() == ()
    rank.emitter.marks(StepMarks([STEP], 1, 1))
    rank.emitter.emit(RUN)
    assert len(rank.exported.get_finished_spans()) == 500


def test_a_step_waits_for_its_collectives_in_flight() -> None:
    rank = Rank()
    now = time.monotonic_ns()
    step = Step(0, last_boundary=1, start=now - 1000, end=now)
    rank.emitter.marks(StepMarks([step], 1, 1))
    rank.emitter.emit_intervals(RUN, in_flight=0)
    assert rank.exported.get_finished_spans() == ()
    rank.emitter.take([rank.event(start=now - 500, end=now + 500)])
    rank.emitter.emit(RUN)
    rank.emitter.emit_intervals(RUN, in_flight=1)  # of the next step
    attributes = by_name(list(rank.exported.get_finished_spans()))["rank_step"].attributes
    assert attributes is not None and attributes[semconv.STEP_COLLECTIVE_COUNT] == 1


def test_setup_is_a_trace_of_its_own_and_absent_without_collectives() -> None:
    rank = Rank()
    setup, step = Step(SETUP, last_boundary=1, start=0, end=900), Step(0, last_boundary=2, start=900, end=5000)
    spans = by_name(rank.play(setup, step, events=[rank.event(boundary=0), rank.event(boundary=1)]))
    assert {"setup", "rank_setup", "train_step", "rank_step"} < set(spans)
    assert spans["setup"].parent is None
    assert context(spans["setup"]).trace_id != context(spans["train_step"]).trace_id
    attributes = spans["setup"].attributes
    assert attributes is not None and semconv.STEP not in attributes
    assert "setup" not in by_name(Rank().play(setup, step, events=[rank.event(boundary=1)]))


def test_every_nth_step_is_traced_and_all_are_measured() -> None:
    rank = Rank(trace_every=3)
    steps = [Step(i, last_boundary=i + 1, start=i, end=i + 1) for i in range(7)]
    spans = rank.play(*steps, events=[rank.event(boundary=i) for i in range(7)])
    traces = {identity.trace_id(RUN, str(i)) for i in (0, 3, 6)}
    assert {context(span).trace_id for span in spans} == traces
    assert rank.points("torch.distributed.collective.duration")[0].count == 7


def test_without_steps_there_are_windows_of_the_clock() -> None:
    rank = Rank(window=1_000_000_000)
    start = time.monotonic_ns() - 20_000_000_000
    events = [
        rank.event(boundary=0, start=start + i * 500_000_000, end=start + i * 500_000_000 + 7) for i in range(8)
    ]
    rank.emitter.marks(StepMarks([], 0, -1), unmarked=999_999_999)
    rank.emitter.take(events)
    rank.emitter.emit(RUN)
    assert rank.exported.get_finished_spans() == ()  # a step may still be marked
    rank.emitter.marks(StepMarks([], 0, -1), unmarked=1_000_000_000)
    rank.emitter.emit(RUN)
    rank.emitter.emit_intervals(RUN, None)
    spans = list(rank.exported.get_finished_spans())
    roots = [span for span in spans if span.name == "window"]
    assert 4 <= len(roots) <= 5
    for root in roots:
        inside = [s for s in spans if context(s).trace_id == context(root).trace_id and s.name == "all_reduce"]
        assert 1 <= len(inside) <= 2
        for span in inside:
            assert root.start_time is not None and root.end_time is not None and span.start_time is not None
            assert root.start_time <= span.start_time <= root.end_time


def test_a_restart_is_another_run_and_says_which_came_before() -> None:
    first, second = Rank(), Rank(attempt=1)
    setup = Step(SETUP, last_boundary=1, start=0, end=900)
    before = by_name(first.play(setup, events=[first.event()]))
    second.run = identity.of_attempt(RUN, 1)
    after = by_name(second.play(setup, events=[second.event()]))
    assert context(before["setup"]).trace_id != context(after["setup"]).trace_id
    (link,) = after["setup"].links
    assert (link.context.trace_id, link.context.span_id) == (
        context(before["setup"]).trace_id,
        context(before["setup"]).span_id,
    )
    attributes = after["setup"].attributes
    assert attributes is not None and attributes[semconv.ATTEMPT] == 1


def test_what_the_ring_overwrote_still_counts() -> None:
    rank = Rank()
    rank.ring = CollectiveMetrics.of(rank.meter_provider, EventRing(4))._ring or rank.ring
    for i in range(10):
        event = CollectiveEvent(CollectiveKind(ALL_REDUCE, rank.group, 4000, FLOAT32), 1000 * i, 0, i)
        rank.ring.begin(event)
        rank.ring.finish(event, 1000 * i + 100 * (i + 1))
    rank.emitter.take(rank.ring.drain())
    (duration,) = rank.points("torch.distributed.collective.duration")
    assert (duration.count, duration.sum) == (10, pytest.approx(5500e-9))
    assert (duration.min, duration.max) == (pytest.approx(100e-9), pytest.approx(1000e-9))
    (io,) = rank.points("torch.distributed.collective.io")
    assert io.value == 40000
    assert rank.ring.overwritten == 6


def test_ranks_meet_in_one_trace_and_only_rank_0_makes_the_root() -> None:
    spans = [by_name(rank.play(STEP, events=[rank.event()])) for rank in (Rank(0), Rank(3))]
    assert "train_step" not in spans[1]
    parent = spans[1]["rank_step"].parent
    assert parent is not None and parent.span_id == context(spans[0]["train_step"]).span_id
    assert context(spans[0]["rank_step"]).span_id != context(spans[1]["rank_step"]).span_id


@pytest.mark.parametrize("sampler", [TraceIdRatioBased(0.5), ParentBased(TraceIdRatioBased(0.5))])
def test_a_ratio_sampler_keeps_whole_steps_the_same_on_every_rank(sampler: Sampler) -> None:
    steps = [Step(i, last_boundary=i + 1, start=i, end=i + 1) for i in range(64)]
    kept = []
    for number in (0, 3):
        rank = Rank(number, sampler=sampler)
        spans = rank.play(*steps, events=[rank.event(boundary=i) for i in range(64)])
        traces = {context(span).trace_id for span in spans}
        assert {context(span).trace_id for span in spans if span.name == "all_reduce"} == traces
        assert {context(span).trace_id for span in spans if span.name == "rank_step"} == traces
        kept.append(traces)
    assert kept[0] == kept[1]
    assert 10 < len(kept[0]) < 54


def test_metrics_are_not_sampled() -> None:
    rank = Rank(sampler=ALWAYS_OFF)
    assert rank.play(STEP, events=[rank.event(), rank.event()]) == []
    data = rank.reader.get_metrics_data()
    assert data is not None
    metrics = {m.name: m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}
    (point,) = metrics["torch.distributed.collective.duration"].data.data_points
    assert point.count == 2  # type: ignore[union-attr]  # a point of the kind that is asked for
    assert point.explicit_bounds == semconv.SECONDS_BUCKETS  # type: ignore[union-attr]  # a point of the kind that is asked for


def test_steps_are_measured_as_their_spans_say_sampled_or_not() -> None:
    steps = [Step(n, last_boundary=n + 1, start=1000 + n * 3000, end=4000 + n * 3000) for n in range(4)]
    rank = Rank(trace_every=2)
    events = [rank.event(boundary=0, start=900, end=2000), rank.event(boundary=1, start=4500, end=5000)]
    spans = [span for span in rank.play(*steps, events=events) if span.name == "rank_step"]
    assert len(spans) == 2
    (point,) = rank.points(semconv.STEP_DURATION_METRIC.name)
    assert point.count == 4 and point.sum == pytest.approx(12_100e-9)
    (point,) = rank.points(semconv.STEP_COLLECTIVE_TIME_METRIC.name)
    assert point.value == pytest.approx(1600e-9)


def test_an_open_step_is_not_measured() -> None:
    rank = Rank()
    rank.play(Step(0, last_boundary=1, start=500, end=3000, complete=False), events=[rank.event()])
    with pytest.raises(KeyError):
        rank.points(semconv.STEP_DURATION_METRIC.name)


def test_failure_and_in_flight() -> None:
    rank = Rank()
    failed, open_, *_ = rank.play(events=[rank.event(error="RuntimeError"), rank.event(end=None)])
    assert failed.status.status_code is trace.StatusCode.ERROR
    assert failed.status.description is None  # exception texts can hold data
    assert failed.attributes is not None and failed.attributes["error.type"] == "RuntimeError"
    assert semconv.COLLECTIVE_ALGBW not in failed.attributes
    assert open_.status.status_code is trace.StatusCode.UNSET
    assert open_.attributes is not None
    assert open_.attributes[semconv.COLLECTIVE_STATE] == "in_flight"


def test_a_device_collective_has_no_bandwidth() -> None:
    rank = Rank()
    event = rank.event(on_host=False)
    (span,) = rank.play(events=[event])
    assert span.attributes is not None
    assert semconv.COLLECTIVE_ALGBW not in span.attributes
    assert semconv.COLLECTIVE_BUSBW not in span.attributes
    assert span.attributes[semconv.COLLECTIVE_CLOCK] == "host"


def test_a_collective_that_outlasts_its_step_is_still_in_it() -> None:
    rank = Rank()
    rank.play(STEP, Step(1, last_boundary=2, start=3000, end=4000), events=[])
    (late,) = [s for s in rank.play(events=[rank.event(boundary=0, end=9000)]) if s.name == "all_reduce"]
    assert context(late).trace_id == identity.trace_id(RUN, "0")


def test_an_event_whose_step_is_open_question_waits() -> None:
    rank = Rank()
    rank.emitter.marks(StepMarks([], 0, 0))  # an optimizer stepped; whether it ends the cycle is not known
    rank.emitter.take([rank.event(boundary=1)])
    rank.emitter.emit(RUN)
    assert rank.exported.get_finished_spans() == ()
    rank.emitter.marks(StepMarks([STEP], 1, 1))
    rank.emitter.emit(RUN)
    spans = by_name(list(rank.exported.get_finished_spans()))
    assert context(spans["all_reduce"]).trace_id == identity.trace_id(RUN, "1")


def test_without_a_run_id_spans_wait_bounded_and_counted() -> None:
    rank = Rank(hold=3)
    rank.emitter.take([rank.event(start=i) for i in range(5)])
    rank.emitter.marks(StepMarks([STEP], 1, 1))
    rank.emitter.emit(None)
    assert rank.exported.get_finished_spans() == ()
    assert rank.emitter.lost == 2
    assert len([s for s in rank.play(events=[]) if s.name == "all_reduce"]) == 3


def pair_reading(at: int) -> PeerTraffic:
    numbers: list[Any] = [0] * 14
    return PeerTraffic(1, "h", 1.0, 1, *numbers)._replace(at=at)


def test_readings_of_peers_that_no_span_shows_are_counted() -> None:
    readings = peers.readings
    readings.until(1 << 62)
    before = readings.dropped
    rank = Rank(trace_every=2)
    steps = [Step(n, last_boundary=n + 1, start=n * 10**10, end=(n + 1) * 10**10) for n in range(4)]
    readings.extend([pair_reading(n * 10**10 + 5) for n in range(4)])
    spans = rank.play(
        *steps, events=[rank.event(boundary=n, start=n * 10**10 + 1, end=n * 10**10 + 2) for n in range(4)]
    )
    shown = sum(len(span.events) for span in spans)
    assert (shown, readings.dropped - before) == (2, 2)
    readings.extend([pair_reading(n) for n in range(peers.MAX_READINGS + 3)])
    assert readings.dropped - before == 5
    (point,) = rank.points(semconv.PEER_READINGS_DROPPED.name)
    assert point.value == readings.dropped
    readings.until(1 << 62)


class Raises(Sampler):
    def should_sample(self, parent_context: Any, trace_id: int, name: str, *_: Any, **__: Any) -> Any:
        raise ValueError(name)

    def get_description(self) -> str:
        return "raises"


def test_each_span_that_a_sampler_costs_is_counted() -> None:
    rank = Rank(sampler=Raises())
    rank.emitter.marks(StepMarks([], 0, 0))
    rank.emitter.take([rank.event(start=i) for i in range(3)])
    rank.emitter.emit(RUN)
    assert rank.emitter.lost == 3
