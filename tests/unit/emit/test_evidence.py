"""What diagnosis needs goes out for every step, whatever is sampled: as a span, or as a log event."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import pytest
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from otel_netmon import schema, semconv
from otel_netmon.capture.ring import EventRing
from otel_netmon.emit.emitter import Emitter
from otel_netmon.emit.metrics import CollectiveMetrics
from otel_netmon.emit.spans import SpanWriter
from otel_netmon.job import identity, peers
from otel_netmon.job.groups import Group
from otel_netmon.job.steps import HeldUp, Step, StepMarks
from otel_netmon.records import (
    Call,
    GroupUse,
    Heartbeat,
    HostTraffic,
    InFlight,
    Pause,
    PeerTraffic,
    RankStep,
    ResourceUsage,
    Sequence,
)
from otel_netmon.values import Ranks
from tests.unit.emit.a_rank import RUN, Rank, by_name, context, job_of, settings_with
from tests.wrote import read_from

USED = ResourceUsage(wait=1, gc=2_000_000_000, data=3, cpu=4, run_queue=5, voluntary=6, involuntary=7)
STEPS = [
    Step(n, last_boundary=n + 1, start=n * 10_000_000, end=(n + 1) * 10_000_000, used=USED, key=f"{n}.0")
    for n in range(4)
]


def events_in(exporter: InMemoryLogRecordExporter, name: str) -> list[Any]:
    return [one.log_record for one in exporter.get_finished_logs() if one.log_record.event_name == name]


def record_of(cls: Any, attributes: Any, **own: Any) -> Any:
    found, wrong = read_from(cls, attributes, **own)
    assert wrong == 0
    return found


def four_steps(rank: Rank) -> list[ReadableSpan]:
    events = [
        rank.event(boundary=n, start=n * 10_000_000 + 1_000_000, end=n * 10_000_000 + 3_000_000) for n in range(4)
    ]
    return rank.play(*STEPS, events=events)


@pytest.mark.parametrize(
    "how", [{"sampler": ALWAYS_OFF}, {"trace_every": 1 << 20}], ids=["sampler", "trace_every"]
)
def test_a_step_that_is_not_sampled_is_a_log_event_of_the_same_fields(
    logged: InMemoryLogRecordExporter, how: Any
) -> None:
    traced = Rank()
    spans = [span for span in four_steps(traced) if span.name == "rank_step"]
    assert not logged.get_finished_logs()
    four_steps(Rank(**how))
    events = events_in(logged, semconv.EVENT_OF_PERIOD["rank_step"])
    assert len(spans) == 4 and len(events) == (4 if "sampler" in how else 3)
    for span, event in zip(spans[-len(events) :], events, strict=True):
        said = dict(event.attributes)
        start = said.pop(semconv.STEP_START)
        assert (event.timestamp - start) == (span.end_time or 0) - (span.start_time or 0) == 10_000_000
        one = record_of(RankStep, span.attributes, name="rank_step")
        assert record_of(RankStep, said, name="rank_step") == one._replace(sampled=False)
        assert one.sampled is True
        assert (event.trace_id, event.span_id) == (context(span).trace_id, context(span).span_id)
        assert not event.trace_flags.sampled


def test_where_nobody_takes_spans_all_steps_are_log_events(logged: InMemoryLogRecordExporter) -> None:
    """As with ``OTEL_TRACES_EXPORTER=none``: the SDK's provider is there, and nothing behind it."""
    metrics = CollectiveMetrics.of(MeterProvider(), EventRing(10))
    emitter = Emitter(metrics, SpanWriter(TracerProvider()), settings_with(), job_of(0))
    emitter.marks(StepMarks(STEPS, 4, 4))
    emitter.emit_intervals(RUN, None)
    assert len(events_in(logged, semconv.EVENT_OF_PERIOD["rank_step"])) == 4


def test_what_a_rank_step_says_of_its_collectives(logged: InMemoryLogRecordExporter) -> None:
    rank = Rank()
    other = Group("tp", 2, 1, "gloo")
    events = [
        rank.event(start=2_000_000, end=2_500_000),
        rank.event(start=1_000_000, end=4_000_000, group=other),
        rank.event(start=3_000_000, end=3_100_000),
    ]
    events[1].sequence = 9
    events[2].is_late = True  # its end is only a bound
    span = by_name(rank.play(STEPS[0], events=events))["rank_step"]
    one = record_of(RankStep, span.attributes, name="rank_step")
    assert one.groups == (GroupUse("0", 2, 8000, 500, 7, 4), GroupUse("tp", 1, 4000, 3000, 9, 2))
    assert one.calls == (
        Call("all_reduce", "tp", 1000, 3000),
        Call("all_reduce", "0", 2000, 500),
        Call("all_reduce", "0", 3000, None),
    )
    assert (one.first_collective, one.gc_time, one.switches_involuntary) == (0.001, 2.0, 7)


def test_a_rank_step_says_when_the_process_was_held_up(logged: InMemoryLogRecordExporter) -> None:
    held_up = (HeldUp("gc", 500_000, 30_000_000), HeldUp("data", 7_000_000, 2_000_000))
    span = by_name(Rank().play(dataclasses.replace(STEPS[0], start=1_000_000, pauses=held_up), events=[]))[
        "rank_step"
    ]
    one = record_of(RankStep, span.attributes, name="rank_step")
    assert one.pauses == (Pause("gc", 0, 30_000), Pause("data", 6000, 2000))


def test_a_rank_step_is_bounded(logged: InMemoryLogRecordExporter) -> None:
    rank = Rank(hold=10_000)
    events = []
    for n in range(3000):
        group = Group(f"group {n % 300}", 4, 0, "gloo")
        events.append(rank.event(start=1_000_000 + n, end=1_000_500 + n, group=group))
    span = by_name(rank.play(STEPS[0], events=events))["rank_step"]
    one = record_of(RankStep, span.attributes, name="rank_step")
    assert (one.collective_count, len(one.calls), len(one.groups)) == (3000, schema.MOST_CALLS, 64)
    assert sum(len(str(value)) for value in (span.attributes or {}).values()) < 40_000


def test_traffic_with_a_peer_goes_out_with_steps_that_are_not_sampled(logged: InMemoryLogRecordExporter) -> None:
    before = peers.readings.dropped
    numbers: list[Any] = [0] * 14
    said = PeerTraffic(3, "h", 1.0, 1, *numbers)
    rank = Rank(2, trace_every=2)
    peers.readings.extend([said._replace(at=n * 10_000_000 + 5) for n in range(4)])
    spans = four_steps(rank)
    on_spans = [event for span in spans for event in span.events]
    in_logs = events_in(logged, semconv.EVENT_TCP_PEER)
    for one in (*on_spans, *in_logs):
        assert record_of(PeerTraffic, one.attributes) == said._replace(rank=2)
    assert (len(on_spans), len(in_logs)) == (2, 2)
    assert peers.readings.dropped == before
    assert in_logs[0].trace_id == identity.trace_id(RUN, "1.0")


def test_what_nics_moved_goes_out_as_it_is_read_whatever_is_open(logged: InMemoryLogRecordExporter) -> None:
    rank = Rank(2)
    peers.nic_readings.since(0)
    said = HostTraffic("eth0", 2.0, 5, 4, 3, 2, at=time.monotonic_ns())
    peers.nic_readings.extend([said])
    for _ in range(2):
        rank.emitter.watch(RUN, [])
    (event,) = events_in(logged, semconv.EVENT_NIC_TRAFFIC)
    assert record_of(HostTraffic, event.attributes) == said._replace(rank=2, at=0)
    assert abs(event.timestamp - time.time_ns()) < 1_000_000_000 and not event.trace_id


SAID = PeerTraffic(3, "h", 2.0, 1, *([0] * 14))  # type: ignore[arg-type]  # any numbers will do


@pytest.mark.parametrize("how", [{}, {"sampler": ALWAYS_OFF}], ids=["sampled", "not sampled"])
def test_while_a_step_is_open_for_long_its_traffic_goes_out_at_once_and_once(
    logged: InMemoryLogRecordExporter, how: Any
) -> None:
    rank = Rank(2, **how)
    now = time.monotonic_ns()
    ended = Step(0, last_boundary=1, start=now - 9_000_000_000, end=now - 3_000_000_000, key="0.0")
    rank.emitter.marks(StepMarks([ended], 1, 1, open_key="1.0"))  # and its collectives have not all ended
    peers.readings.extend([SAID._replace(at=ended.end - 5), SAID._replace(at=ended.end + 5)])
    rank.emitter.watch(RUN, [])
    rank.emitter.watch(RUN, [])
    (early,) = events_in(logged, semconv.EVENT_TCP_PEER)
    assert record_of(PeerTraffic, early.attributes) == SAID._replace(rank=2)
    assert (early.trace_id, early.span_id) == (identity.trace_id(RUN, "1.0"), identity.rank_id(RUN, "1.0", 2))
    assert early.trace_flags.sampled is not bool(how)
    assert abs(early.timestamp - (ended.end + 5 + time.time_ns() - time.monotonic_ns())) < 10_000_000
    peers.readings.extend([SAID._replace(at=now)])
    opened = Step(1, last_boundary=2, start=ended.end, end=now + 5, key="1.0")
    spans = rank.play(opened, events=[])
    on_spans = [span.name for span in spans for _ in span.events]
    in_logs = len(events_in(logged, semconv.EVENT_TCP_PEER))
    assert (len(on_spans), in_logs) == ((0, 3) if how else (2, 1))


def test_the_traffic_of_a_short_step_waits_for_its_end(logged: InMemoryLogRecordExporter) -> None:
    rank = Rank()
    now = time.monotonic_ns()
    rank.emitter.marks(StepMarks([Step(0, last_boundary=1, start=now - 10, end=now)], 1, 1))
    peers.readings.extend([SAID._replace(at=now + 5)])
    rank.emitter.watch(RUN, [])
    assert not events_in(logged, semconv.EVENT_TCP_PEER)


def test_where_nothing_marks_steps_the_traffic_is_of_the_window(logged: InMemoryLogRecordExporter) -> None:
    rank = Rank(window=60_000_000_000)
    now = time.monotonic_ns()
    rank.emitter._begun = now - 3_000_000_000
    rank.emitter.marks(StepMarks([], 0, 0), unmarked=61_000_000_000)
    peers.readings.extend([SAID._replace(at=now)])
    rank.emitter.watch(RUN, [])
    (said,) = events_in(logged, semconv.EVENT_TCP_PEER)
    numbers = {time.time_ns() // 60_000_000_000 - n for n in (0, 1)}
    assert said.trace_id in {identity.trace_id(RUN, f"window {number}") for number in numbers}


def test_without_anybody_who_takes_logs_the_traffic_of_an_open_step_waits_for_its_end() -> None:
    peers.readings.until(1 << 62)
    rank = Rank()
    now = time.monotonic_ns()
    rank.emitter.marks(
        StepMarks([Step(0, last_boundary=1, start=now - 9_000_000_000, end=now - 3_000_000_000)], 1, 1)
    )
    peers.readings.extend([SAID._replace(at=now)])
    rank.emitter.watch(RUN, [])
    assert len(peers.readings.until(1 << 62)) == 1


def test_without_anybody_who_takes_logs_the_traffic_counts_as_dropped() -> None:
    peers.readings.until(1 << 62)
    before = peers.readings.dropped
    peers.readings.extend([PeerTraffic(3, "h", 1.0, 1, *([0] * 14))._replace(at=5)])  # type: ignore[arg-type]  # of what the test gives
    four_steps(Rank(sampler=ALWAYS_OFF))
    assert peers.readings.dropped == before + 1


def test_ranks_that_are_not_to_be_traced_make_no_spans_of_single_collectives(
    logged: InMemoryLogRecordExporter,
) -> None:
    for number in range(3):
        spans = four_steps(Rank(number, trace_ranks=Ranks("/2")))
        names = [span.name for span in spans]
        steps = [span for span in spans if span.name == "rank_step"]
        assert names.count("all_reduce") == (4 if number % 2 == 0 else 0)
        assert len(steps) == 4  # in the trace all the same
        assert {(step.attributes or {})[semconv.STEP_SAMPLED] for step in steps} == {number % 2 == 0}
    assert not logged.get_finished_logs()


def test_a_heartbeat_says_what_is_in_flight(logged: InMemoryLogRecordExporter) -> None:
    rank = Rank(1, heartbeat=3600.0)
    rank.play(STEPS[0], events=[rank.event()])
    now = time.monotonic_ns()
    hanging = [rank.event(start=now - (n + 1) * 1_000_000_000, end=None) for n in range(20)]
    hanging[0].sequence = 8
    for _ in range(3):
        rank.emitter.watch(RUN, hanging)
    (event,) = events_in(logged, semconv.EVENT_HEARTBEAT)  # the next is due in an hour
    one = record_of(Heartbeat, event.attributes)
    assert (one.run_id, one.rank, one.step, one.sequences) == (RUN, 1, 1, (Sequence("0", 8),))
    assert len(one.in_flight) == 16
    oldest = one.in_flight[0]
    assert oldest._replace(age=0) == InFlight("all_reduce", "0", 7, 4000, 0)
    assert 20 <= oldest.age < 30
    assert one.step_age is not None and one.step_age > 0


def test_what_was_last_seen_in_flight_long_ago_does_not_hang(logged: InMemoryLogRecordExporter) -> None:
    """A look at the Flight Recorder may be seconds old."""
    rank = Rank(1, heartbeat=3600.0, stall_after=1.0)
    now = time.monotonic_ns()
    for age, stalled in (500_000_000, 0), (-500_000_000, 1):
        rank.emitter.watch(RUN, [rank.event(start=now - 2_000_000_000, end=None)], now - 1_000_000_000 - age)
        assert len(events_in(logged, semconv.EVENT_STALLED)) == stalled
    (event,) = events_in(logged, semconv.EVENT_HEARTBEAT)
    assert record_of(Heartbeat, event.attributes).in_flight[0].age == pytest.approx(0.5)


@pytest.mark.parametrize("run_id", [None, RUN])
def test_no_heartbeat_where_none_is_wanted_or_no_job_is_known(
    logged: InMemoryLogRecordExporter, run_id: str | None
) -> None:
    rank = Rank(heartbeat=0.0 if run_id else 1.0)
    rank.emitter.watch(run_id, [])
    assert not logged.get_finished_logs()


def test_a_hang_is_a_log_event_with_the_ids_of_the_span_to_come(logged: InMemoryLogRecordExporter) -> None:
    rank = Rank(1, stall_after=1.0)
    event = rank.event(start=time.monotonic_ns() - 2_000_000_000, end=None)
    rank.emitter.marks(StepMarks([], 0, 0))
    for _ in range(2):
        rank.emitter.watch(RUN, [event])
    (said,) = events_in(logged, semconv.EVENT_STALLED)
    one = record_of(InFlight, said.attributes)
    assert one._replace(age=0.0) == InFlight("all_reduce", "0", 7, 4000, 0.0, "gloo", 4, 1, 1, 4)
    assert (said.span_id, said.severity_text) == (event.span_id, "WARN")
    event.end = time.monotonic_ns()
    (span,) = [span for span in rank.play(events=[event]) if span.name == "all_reduce"]
    assert (context(span).trace_id, context(span).span_id) == (said.trace_id, said.span_id)
