"""Spans from templates, and others of ours, are what the official encoders make of the same records."""

from __future__ import annotations

import json
import os
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import Event, ReadableSpan

from otel_netmon import schema
from otel_netmon.capture.event import CollectiveEvent, CollectiveKind
from otel_netmon.capture.operations import OPERATIONS
from otel_netmon.delivery.otlp_json import Json
from otel_netmon.delivery.otlp_protobuf import Protobuf
from otel_netmon.delivery.packed import Place, WholeSpan
from otel_netmon.emit.attribute_sets import AttributeSet
from otel_netmon.emit.attributes import collective
from otel_netmon.emit.encoding import CollectiveEncoder, Trace
from otel_netmon.job.groups import Group
from otel_netmon.job.roles import RankIdentity
from tests.unit.emit.a_rank import ALL_REDUCE, FLOAT32
from tests.unit.official import RESOURCE, SCOPE, as_json, as_protobuf, finished

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200"))
many = settings(max_examples=EXAMPLES, deadline=None)

EPOCH = 1_700_000_000_000_000_000
SPAN_IDS = st.integers(1, 2**64 - 1)
TRACE_IDS = st.integers(1, 2**128 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
TIMES = st.integers(0, 2**60)
SIZES = st.sampled_from([0, 1, 127, 128, 16383, 16384]) | st.integers(0, 2**50)
RANKS = st.none() | st.integers(0, 100_000)


@st.composite
def kinds(draw: Any) -> CollectiveKind:
    operation = draw(st.sampled_from(sorted(OPERATIONS.values(), key=lambda each: each.name)))
    group = Group(draw(TEXT), draw(st.integers(0, 5000)), draw(st.integers(-1, 5000)), "cpu:gloo,cuda:nccl")
    on_host = draw(st.booleans())
    rank = RankIdentity(draw(RANKS), draw(RANKS), draw(RANKS))
    about = AttributeSet(group, operation, on_host, rank)
    dtype, reduce_op = draw(st.sampled_from([None, FLOAT32])), draw(st.none() | TEXT)
    is_async, is_even = draw(st.none() | st.booleans()), draw(st.booleans())
    return CollectiveKind(operation, group, draw(SIZES), dtype, is_async, is_even, on_host, reduce_op, about)


@st.composite
def events(draw: Any, kinds: list[CollectiveKind]) -> CollectiveEvent:
    sequence = st.sampled_from([None, 0, 127, 128, 16384, 2**21 - 1, 2**21, 2**63 - 1])
    event = CollectiveEvent(draw(st.sampled_from(kinds)), draw(TIMES), 0, draw(sequence | st.integers(0, 2**40)))
    event.end = draw(st.none() | st.integers(0, 2**40).map(lambda took: event.start + took))
    event.error = draw(st.none() | TEXT)
    event.error_message = None if event.error is None else draw(st.none() | TEXT)
    event.is_late = draw(st.booleans())
    event.device_duration = draw(st.none() | st.integers(0, 2**50))
    event.device_bound = draw(st.none() | st.integers(0, 2**50))
    return event


def official(event: CollectiveEvent, span_id: int, of: Trace) -> ReadableSpan:
    about: Any = event.kind.about
    end = of.now if event.end is None else event.end
    place = Place(of.trace_id, of.parent_id, span_id, event.start + of.epoch, end + of.epoch)
    attributes = schema.attributes(collective(event, about))
    return finished(about.operation, place, attributes, error=event.error is not None)


@many
@given(data=st.data(), trace_id=TRACE_IDS, parent=st.none() | SPAN_IDS, first_id=st.integers(1, 2**63))
def test_collectives_are_what_the_official_encoders_make(
    data: Any, trace_id: int, parent: int | None, first_id: int
) -> None:
    drawn = data.draw(st.lists(kinds(), min_size=1, max_size=3))
    made = data.draw(st.lists(events(drawn), min_size=1, max_size=8))
    of, ids = Trace(trace_id, parent, EPOCH, 2**61), list(range(first_id, first_id + len(made)))
    expected = [official(event, span_id, of) for event, span_id in zip(made, ids, strict=True)]
    protobuf, text = Protobuf(), Json()
    encoders = CollectiveEncoder(protobuf), CollectiveEncoder(text)
    for _ in range(2):  # templates are made, then used
        request = protobuf.request(RESOURCE, SCOPE, [encoders[0].encode(made, ids, None, of)])
        assert request == as_protobuf(expected)
        line = text.request(RESOURCE, SCOPE, [encoders[1].encode(made, ids, None, of)])
        assert json.loads(line) == as_json(expected)
        assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert ExportTraceServiceRequest.FromString(request).resource_spans[0].scope_spans[0].spans[0].name


VALUES = TEXT | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
ATTRIBUTES = st.dictionaries(TEXT, VALUES, max_size=4)
LINKS = st.builds(trace.SpanContext, TRACE_IDS, SPAN_IDS, st.booleans()).map(trace.Link)


@many
@given(
    name=TEXT,
    ids=st.tuples(TRACE_IDS, st.none() | SPAN_IDS, SPAN_IDS),
    attributes=ATTRIBUTES,
    error=st.booleans(),
    links=st.lists(LINKS, max_size=2),
    notes=st.lists(st.tuples(TEXT.filter(bool), st.integers(1, 2**63), ATTRIBUTES), max_size=3),
)
def test_any_span_is_what_the_official_encoders_make(
    name: str, ids: tuple[int, int | None, int], attributes: Any, error: bool, links: Any, notes: Any
) -> None:
    place = Place(*ids, EPOCH, EPOCH + 5)
    said = [Event(about, kept, at) for about, at, kept in notes]
    one = finished(name, place, attributes, error=error, links=links, events=said)
    for made in (Protobuf(), Json()):
        span = made.span(WholeSpan(name, place, attributes, error, links, notes))
        request = made.request(RESOURCE, SCOPE, [span, span])
        if isinstance(made, Protobuf):
            assert request == as_protobuf([one, one])
        else:
            assert json.loads(request) == as_json([one, one])


def test_templates_are_bounded() -> None:
    group = Group("0", 4, 0, "gloo")
    about = AttributeSet(group, ALL_REDUCE, True, RankIdentity(0, 0, 4))
    encoder, of = CollectiveEncoder(Protobuf()), Trace(1, 2, EPOCH, 0)
    for size in range(2000):
        event = CollectiveEvent(CollectiveKind(ALL_REDUCE, group, size, FLOAT32, about=about), 1, 0, 5)
        encoder.encode([event], [7], None, of)
    assert 0 < sum(map(len, encoder._templates)) <= 512


def test_a_kind_whose_rank_became_known_says_so() -> None:
    group = Group("0", 4, 0, "gloo")
    kind = CollectiveKind(ALL_REDUCE, group, 4000, FLOAT32)
    encoder, of = CollectiveEncoder(Protobuf()), Trace(1, 2, EPOCH, 0)
    made = []
    for rank in (None, 3):
        kind.about = AttributeSet(group, ALL_REDUCE, True, RankIdentity(rank, None, None))
        made.append(encoder.encode([CollectiveEvent(kind, 1, 0, 5)], [7], None, of))
    assert made[0] != made[1]
