"""Spans are encoded where all exporters are ours, and what the SDK promises of its processors holds for them."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import Link, SpanContext

from otel_netmon import semconv
from otel_netmon.capture.event import CollectiveEvent, CollectiveKind
from otel_netmon.delivery.base import SpansTo
from otel_netmon.delivery.otlp_protobuf import Protobuf
from otel_netmon.delivery.packed import PackedSpans, Place
from otel_netmon.delivery.span_lines import SpanLines
from otel_netmon.emit.attribute_sets import AttributeSet
from otel_netmon.emit.spans import SpanWriter
from otel_netmon.job.groups import Group
from otel_netmon.job.roles import RankIdentity
from tests.unit.emit.a_rank import ALL_REDUCE, FLOAT32, STEP, Rank
from tests.unit.official import Kept, as_protobuf

LONG = 1e7
"""Milliseconds that no test waits for."""


class Batched:
    """A provider with a batch processor and an exporter of ours, and a writer that has made its first span."""

    def __init__(self, *, batch: int = 512, queue: int = 2048, delay: float = LONG, **settings: Any) -> None:
        self.kept = Kept()
        self.provider = TracerProvider(**settings)
        exporter = SpansTo(self.kept, as_protobuf, Protobuf())
        self.processor = BatchSpanProcessor(
            exporter, max_queue_size=queue, max_export_batch_size=batch, schedule_delay_millis=delay
        )
        self.provider.add_span_processor(self.processor)
        self.writer = SpanWriter(self.provider)
        assert self.writer.ready()
        self.emit(1)
        self.provider.force_flush()
        self.kept.requests.clear()
        self.kept.items.clear()

    def emit(self, count: int) -> None:
        """Collectives of one step, as the emitter has them made."""
        events = a_step(count)
        if self.writer.packs:
            self.writer.emit_events(events, 5, 6, 100)
        else:
            for event in events:
                place = Place(5, 6, 0, event.start + 100, (event.end or 0) + 100)
                self.writer.emit_event(event, event.kind.about, place)


def a_step(count: int) -> list[CollectiveEvent]:
    group = Group("0", 4, 0, "gloo")
    about = AttributeSet(group, ALL_REDUCE, True, RankIdentity(0, 0, 4))
    kind = CollectiveKind(ALL_REDUCE, group, 4000, FLOAT32, about=about)
    made = [CollectiveEvent(kind, 10 + i, 0, i) for i in range(count)]
    for event in made:
        event.end = event.start + 1000
    return made


@pytest.fixture
def batched() -> Iterator[Batched]:
    made = Batched()
    yield made
    made.provider.shutdown()


def test_a_round_is_one_object_in_the_queue(batched: Batched, monkeypatch: pytest.MonkeyPatch) -> None:
    assert batched.writer.packs
    seen: list[Any] = []
    on_end = batched.processor.on_end

    def watched(span: Any) -> None:
        seen.append(span)
        on_end(span)

    monkeypatch.setattr(batched.processor, "on_end", watched)
    batched.emit(100)
    batched.writer.emit("rank_step", Place(5, None, 6, 1, 2), {"a": 1})
    assert not seen
    batched.writer.flush()
    batched.writer.flush()
    (pack,) = seen
    assert isinstance(pack, PackedSpans) and pack.count == 101
    assert not batched.kept.items, "the delay is the processor's"
    batched.provider.force_flush()
    assert batched.kept.items == [101]
    spans = batched.kept.spans
    assert [span.name for span in spans] == ["all_reduce"] * 100 + ["rank_step"]
    assert len({span.span_id for span in spans}) == 101 and all(any(span.span_id) for span in spans)


def test_a_file_is_written_at_once_and_what_goes_elsewhere_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    for is_local in (True, False):
        monkeypatch.setattr(SpansTo, "is_local", is_local)
        made = Batched()
        made.emit(3)
        made.writer.flush()
        made.writer.export()
        made.writer.export()
        assert made.kept.items == ([3] if is_local else [])
        made.provider.shutdown()


def test_the_delay_is_kept() -> None:
    import time

    made = Batched(delay=50)
    made.emit(3)
    made.writer.flush()
    deadline = time.monotonic() + 10
    while not made.kept.items and time.monotonic() < deadline:
        time.sleep(0.01)
    assert made.kept.items == [3]
    made.provider.shutdown()


def test_shutdown_exports_what_was_handed_over(batched: Batched) -> None:
    batched.emit(3)
    batched.writer.flush()
    batched.provider.shutdown()
    assert batched.kept.items == [3]
    batched.emit(3)  # what comes after is lost, as the SDK's own is
    batched.writer.flush()
    assert batched.kept.items == [3]


@pytest.mark.parametrize(("batch", "count"), [(10, 95), (64, 640), (100, 640), (1, 3), (512, 2000)])
def test_requests_and_queue_are_bounded(batch: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Batched(batch=batch, queue=batch)
    on_end, handed, waiting = made.processor.on_end, [], []

    def watched(pack: Any) -> None:
        handed.append(pack.count)
        on_end(pack)
        waiting.append(sum(handed) - sum(made.kept.items))

    monkeypatch.setattr(made.processor, "on_end", watched)
    for _ in range(3):
        made.emit(count)
        made.writer.flush()
    assert max(waiting) <= batch, "the queue is no longer than that"
    assert max(made.kept.items) <= batch
    assert 3 * count - sum(made.kept.items) < batch, "as many as a request takes are exported at once"
    made.provider.force_flush()
    assert sum(made.kept.items) == len(made.kept.spans) == 3 * count
    made.provider.shutdown()


def test_those_that_the_processor_exported_do_not_wait(batched: Batched) -> None:
    for _ in range(10):
        batched.emit(100)
        batched.writer.flush()
        batched.provider.force_flush()
    assert batched.kept.items == [100] * 10


def test_a_forked_child_has_none_of_its_parents(batched: Batched) -> None:
    batched.emit(3)
    ours, theirs = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            batched.emit(2)
            batched.writer.flush()
            batched.provider.force_flush()
            os.write(theirs, str(sum(batched.kept.items)).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(theirs)
    with open(ours, "rb") as said:
        assert said.read() == b"2"
    batched.writer.flush()
    batched.provider.force_flush()
    assert batched.kept.items == [3]


class Watching(SpanProcessor):
    """A processor of somebody else's."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def on_end(self, span: Any) -> None:
        self.ended.append(span.name)


def test_a_processor_of_the_users_beside_ours_sees_every_span(batched: Batched) -> None:
    batched.emit(3)
    watching = Watching()
    batched.provider.add_span_processor(watching)
    assert not batched.writer.packs
    batched.emit(2)
    batched.writer.emit("rank_step", Place(5, None, 6, 1, 2), {"a": 1})
    assert watching.ended == ["all_reduce", "all_reduce", "rank_step"]
    batched.provider.force_flush()
    assert sum(batched.kept.items) == 6, "those from before are handed over first"


def test_an_exporter_of_the_users_beside_ours_gets_spans(batched: Batched) -> None:
    theirs = InMemorySpanExporter()
    batched.provider.add_span_processor(SimpleSpanProcessor(theirs))
    assert not batched.writer.packs
    batched.emit(2)
    batched.provider.force_flush()
    assert len(theirs.get_finished_spans()) == len(batched.kept.spans) == 2


def test_a_simple_processor_exports_at_the_end_of_a_round() -> None:
    kept = Kept()
    provider = TracerProvider()
    lines = SpanLines()
    provider.add_span_processor(SimpleSpanProcessor(SpansTo(kept, lines.encode, lines.format)))
    writer = SpanWriter(provider)
    assert writer.ready()
    writer.emit("first", Place(5, None, 6, 1, 2), {})
    writer.emit("second", Place(5, None, 6, 1, 2), {})
    assert kept.items == [1]
    writer.flush()
    assert [span["name"] for span in kept.spans] == ["first", "second"]


def test_limits_of_the_sdk_cut_what_they_cut() -> None:
    made = Batched(span_limits=SpanLimits(max_events=2, max_links=1))
    events = [(at, {"a": at}) for at in range(1, 4)]
    links = [Link(SpanContext(1, 2, True)), Link(SpanContext(1, 3, True))]
    for kept_events, kept_links in ((events[:2], links[:1]), (events, []), ([], links)):
        made.writer.emit("rank_step", Place(5, None, 6, 1, 2), {}, links=kept_links, events=kept_events)
        made.writer.flush()
        made.provider.force_flush()
    assert [(len(s.events), s.dropped_events_count) for s in made.kept.spans] == [(2, 0), (2, 1), (0, 0)]
    assert [(len(s.links), s.dropped_links_count) for s in made.kept.spans] == [(1, 0), (0, 0), (1, 1)]
    made.provider.shutdown()
    assert not Batched(span_limits=SpanLimits(max_event_attributes=3)).writer.packs
    assert not Batched(span_limits=SpanLimits(max_attribute_length=3)).writer.packs


def test_the_resource_is_that_of_when_they_were_made(batched: Batched) -> None:
    batched.emit(1)
    batched.provider._update_resource(Resource({"torch.distributed.rank": 3}))
    batched.writer.look_again()
    assert batched.writer.ready()
    batched.emit(2)
    batched.writer.flush()
    batched.provider.force_flush()
    ranks = [
        [pair.value.int_value for pair in each.resource.attributes if pair.key == semconv.RANK]
        for request in batched.kept.requests
        for each in request.resource_spans
        for _ in each.scope_spans[0].spans
    ]
    assert ranks == [[], [3], [3]]


def encoded(*, ours: bool, text: bool) -> list[Any]:
    """The spans of a rank's two steps: encoded by us, or, beside a processor that only watches, as ever."""
    rank = Rank()
    kept, lines = Kept(), SpanLines()
    exporter = SpansTo(kept, lines.encode, lines.format) if text else SpansTo(kept, as_protobuf, Protobuf())
    provider = TracerProvider(resource=Resource({"a": 1}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    if not ours:
        provider.add_span_processor(Watching())
    rank.emitter._spans._given = provider
    rank.emitter._epoch = 10**18
    rank.emitter._evidence._epoch = rank.emitter._collectives._epoch = 10**18
    events = [rank.event(start=1000 + i, end=2000 + i, error="RuntimeError" if i == 3 else None) for i in range(5)]
    rank.play(STEP, events=events)
    return kept.spans


@pytest.mark.parametrize("text", [False, True])
def test_a_steps_spans_are_the_same_on_either_way(*, text: bool) -> None:
    def comparable(span: Any) -> Any:
        if isinstance(span, dict):
            return json.dumps({**span, "spanId": span["spanId"] if span["name"] != "all_reduce" else ""})
        if span.name == "all_reduce":
            span.span_id = b""
        return span.SerializeToString()

    ours, theirs = (sorted(map(comparable, encoded(ours=ours, text=text))) for ours in (True, False))
    assert len(ours) == 7 and ours == theirs


def test_a_round_is_nothing_to_the_garbage_collector(batched: Batched) -> None:
    batched.emit(64)
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(6):
        batched.emit(64)
    batched.writer.flush()
    gc.collect()
    assert len(gc.get_objects()) - before < 100, "384 spans wait"
