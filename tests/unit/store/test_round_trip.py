"""A record is the same after it was written by the official SDK and encoders, and read: every field of it."""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Callable, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import _logs as api_logs
from opentelemetry.exporter.otlp.json.common import _log_encoder as json_logs
from opentelemetry.exporter.otlp.json.common import metrics_encoder as json_metrics
from opentelemetry.exporter.otlp.json.common import trace_encoder as json_traces
from opentelemetry.exporter.otlp.proto.common import _log_encoder as proto_logs
from opentelemetry.exporter.otlp.proto.common import metrics_encoder as proto_metrics
from opentelemetry.exporter.otlp.proto.common import trace_encoder as proto_traces
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from otel_netmon import schema, semconv
from otel_netmon.delivery.span_lines import SpanLines
from otel_netmon.endings import LastCalls, RankExit
from otel_netmon.records import (
    Call,
    Collective,
    GroupUse,
    Heartbeat,
    HostSample,
    HostTraffic,
    InFlight,
    PeerTraffic,
    RankStep,
    Source,
)
from otel_netmon.store.problems import Problems
from otel_netmon.store.reader import Known, records

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
SCOPE = InstrumentationScope(semconv.SCOPE_COLLECTIVES, "1", semconv.SCHEMA_URL)

# --- records --------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc", "Cf", "Cn", "Co", "Z")), max_size=255)
WHOLE = st.integers(0, (1 << 63) - 1)
TIMES = st.tuples(st.integers(1, 1 << 62), st.integers(1, 1 << 62)).map(sorted)
MICROSECONDS = st.integers(0, 10**12).map(lambda n: n / 1e6)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: WHOLE,
    float: st.floats(-1e99, 1e99),
    bool: st.booleans(),
    NoneType: st.none(),
}
SOURCES = st.builds(
    Source,
    TEXT.filter(bool),
    *(st.none() | TEXT.filter(bool), *[st.none() | WHOLE] * 3),
    TEXT.filter(bool),
    st.none() | WHOLE,
)


def of_type(kind: Any) -> st.SearchStrategy[Any]:
    """Any value that a field of this type may have."""
    if get_origin(kind) in (Union, UnionType):
        return st.one_of(*map(of_type, get_args(kind)))
    if get_origin(kind) is tuple:
        return st.lists(of_type(get_args(kind)[0]), max_size=4).map(tuple)
    if kind is InFlight:
        about = (TEXT, TEXT, st.none() | WHOLE, st.none() | WHOLE, MICROSECONDS)
        return st.tuples(*about).map(lambda packed: InFlight(*packed))  # as a heartbeat has it
    if hasattr(kind, "_fields"):
        return st.builds(kind._make, st.tuples(*map(of_type, get_type_hints(kind).values())))
    return PLAIN[kind]


def some(cls: Any, **own: Any) -> st.SearchStrategy[Any]:
    """Records with any values in the fields that are attributes; in the others those of ``own``."""
    hints = get_type_hints(cls)
    drawn = {name: of_type(hints[name]) for name in schema.ATTRIBUTES[cls]}
    return st.fixed_dictionaries({**drawn, "source": SOURCES}).map(lambda values: cls(**values, **own))


def trace_id(number: int) -> str:
    return f"{number:032x}"


def ids(record: Any) -> SpanContext:
    own = int(record.span_id, 16) if hasattr(record, "span_id") else int(record.parent_id, 16)
    return SpanContext(int(record.trace_id, 16), own, is_remote=False, trace_flags=TraceFlags(1))


IDS: dict[str, Any] = {"trace_id": trace_id(0xABC), "span_id": "00000000000000de"}
PARENT = st.sampled_from([None, "00000000000000ff"])

# --- as the SDK has them --------------------------------------------------------------------------------------


def resource_of(source: Source | None) -> Resource:
    assert source is not None
    names = (
        "service.instance.id",
        "host.name",
        semconv.RANK,
        semconv.LOCAL_RANK,
        semconv.WORLD_SIZE,
        "service.name",
        semconv.PROCESS_ID,
    )
    return Resource({str(name): value for name, value in zip(names, source, strict=True) if value is not None})


def span_of(record: Collective | RankStep, name: str, events: Sequence[Event] = ()) -> ReadableSpan:
    parent = record.parent_id and SpanContext(ids(record).trace_id, int(record.parent_id, 16), is_remote=True)
    return ReadableSpan(
        name,
        context=ids(record),
        parent=parent or None,
        resource=resource_of(record.source),
        attributes=schema.attributes(record),
        events=events,
        instrumentation_scope=SCOPE,
        start_time=record.start,
        end_time=record.end,
    )


def log_of(record: Any, name: str, time: int, **more: Any) -> ReadableLogRecord:
    in_span: Any = {}
    if getattr(record, "trace_id", ""):
        in_span["context"] = set_span_in_context(NonRecordingSpan(ids(record)))
    about = {**schema.attributes(record), **more}
    log = api_logs.LogRecord(timestamp=time, body="said", attributes=about, event_name=name, **in_span)
    return ReadableLogRecord(log, resource_of(record.source), SCOPE)


def metric_of(sample: HostSample) -> MetricsData:
    about, start = dict(sample.attributes), sample.start_time
    temporality = AggregationTemporality.DELTA if sample.is_delta else AggregationTemporality.CUMULATIVE
    data: Any
    if sample.counts:
        total = sample.sum or 0.0
        count = sum(sample.counts)
        point = HistogramDataPoint(
            about, start or 0, sample.time, count, total, sample.counts, sample.bounds, -math.inf, math.inf
        )
        data = Histogram([point], temporality)
    else:
        number = NumberDataPoint(about, start or 0, sample.time, sample.value)
        data = Gauge([number]) if start is None else Sum([number], temporality, is_monotonic=True)
    metric = Metric(sample.metric, None, None, data)
    scope = ScopeMetrics(SCOPE, [metric], "")
    return MetricsData([ResourceMetrics(resource_of(sample.source), [scope], "")])


# --- on the wire and back -------------------------------------------------------------------------------------


def from_json(message: Any) -> list[Known]:
    """Through the text, as in a file."""
    return checked(json.loads(json.dumps(message.to_dict())))


def from_protobuf(message: Any) -> list[Known]:
    """Through the bytes; as JSON the way OTLP has it, where ids are hexadecimal and enums numbers."""
    parsed = type(message).FromString(message.SerializeToString())
    return checked(with_hexadecimal_ids(MessageToDict(parsed, use_integers_for_enums=True)))


def with_hexadecimal_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: base64.b64decode(one).hex()
            if key in ("traceId", "spanId", "parentSpanId")
            else with_hexadecimal_ids(one)
            for key, one in value.items()
        }
    return [with_hexadecimal_ids(one) for one in value] if isinstance(value, list) else value


def checked(message: dict[str, Any]) -> list[Known]:
    problems = Problems()
    found = records(message, problems)
    assert problems == Problems()
    return found


Encoders = tuple[Any, Any, Any, Callable[[Any], list[Known]]]
WAYS: dict[str, Encoders] = {
    "JSON": (json_traces.encode_spans, json_logs.encode_logs, json_metrics.encode_metrics, from_json),
    "protobuf": (proto_traces.encode_spans, proto_logs.encode_logs, proto_metrics.encode_metrics, from_protobuf),
}
by_each_way = pytest.mark.parametrize("way", WAYS)
many = settings(max_examples=EXAMPLES, deadline=None)


@by_each_way
@many
@given(some(Collective, **IDS), TIMES, PARENT)
def test_a_collective(way: str, record: Collective, times: list[int], parent: str | None) -> None:
    record = record._replace(start=times[0], end=times[1], parent_id=parent)
    spans, _, _, back = WAYS[way]
    assert back(spans([span_of(record, "all_reduce")])) == [record]


@many
@given(some(Collective, **IDS), TIMES, PARENT)
def test_a_collective_that_is_written_as_text(record: Collective, times: list[int], parent: str | None) -> None:
    record = record._replace(start=times[0], end=times[1], parent_id=parent)
    assert checked(json.loads(SpanLines().encode([span_of(record, "all_reduce")]))) == [record]


@by_each_way
@many
@given(some(RankStep, name="", **IDS), TIMES, PARENT, st.sampled_from(semconv.SPAN_PERIODS))
def test_a_step(way: str, record: RankStep, times: list[int], parent: str | None, name: str) -> None:
    spans, logs, _, back = WAYS[way]
    record = record._replace(start=times[0], end=times[1], parent_id=parent, name=name)
    assert back(spans([span_of(record, name)])) == [record]
    if name in semconv.EVENT_OF_PERIOD:
        record = record._replace(parent_id=None)
        event = semconv.EVENT_OF_PERIOD[name]
        assert back(logs([log_of(record, event, record.end, **{semconv.STEP_START: record.start})])) == [record]


def test_a_step_with_as_much_as_one_may_say() -> None:
    """The bound of packed attributes is above what is written, with the longest names that there are."""
    names = ["\N{SNOWMAN}" * 250 + f"{n:05}" for n in range(64)]
    groups = tuple(GroupUse(name, 1 << 40, 1 << 60, 1 << 50, 1 << 40, 1 << 20) for name in names)
    calls = tuple(
        Call("all_gather_into_tensor_coalesced", names[n % 8], 10**9, 10**9) for n in range(schema.MOST_CALLS)
    )
    source = Source("i", service="s")
    step = RankStep("rank_step", groups=groups, calls=calls, source=source, start=1, end=1, **IDS)
    for spans, _, _, back in WAYS.values():
        assert back(spans([span_of(step, "rank_step")])) == [step]


@by_each_way
@many
@given(some(PeerTraffic, trace_id=IDS["trace_id"], parent_id=IDS["span_id"]), st.integers(1, 1 << 62))
def test_traffic_with_a_peer(way: str, record: PeerTraffic, at: int) -> None:
    spans, logs, _, back = WAYS[way]
    record = record._replace(at=at)
    step = RankStep("rank_step", source=record.source, start=1, end=1, **IDS)
    events = [Event(semconv.EVENT_TCP_PEER, schema.attributes(record), at), Event("exception", {"a": "b"}, at)]
    assert back(spans([span_of(step, "rank_step", events)])) == [step, record]
    assert back(logs([log_of(record, semconv.EVENT_TCP_PEER, at)])) == [record]


@by_each_way
@many
@given(some(RankExit), some(LastCalls), st.integers(1, 1 << 62))
def test_how_a_rank_ended(way: str, end: RankExit, calls: LastCalls, time: int) -> None:
    _, logs, _, back = WAYS[way]
    end, calls = end._replace(time=time), calls._replace(time=time)
    assert back(logs([log_of(end, semconv.EVENT_EXITED, time)])) == [end]
    assert back(logs([log_of(calls, semconv.EVENT_LAST_CALLS, time)])) == [calls]


@by_each_way
@many
@given(some(InFlight, **IDS), some(Heartbeat), st.integers(1, 1 << 62))
def test_what_is_in_flight_and_a_heartbeat(way: str, hanging: InFlight, beat: Heartbeat, time: int) -> None:
    _, logs, _, back = WAYS[way]
    hanging, beat = hanging._replace(time=time), beat._replace(time=time)
    assert back(logs([log_of(hanging, semconv.EVENT_STALLED, time)])) == [hanging]
    assert back(logs([log_of(beat, semconv.EVENT_HEARTBEAT, time)])) == [beat]


@by_each_way
@many
@given(some(HostTraffic), st.integers(1, 1 << 62))
def test_traffic_of_a_nic(way: str, record: HostTraffic, at: int) -> None:
    _, logs, _, back = WAYS[way]
    record = record._replace(at=at)
    assert back(logs([log_of(record, semconv.EVENT_NIC_TRAFFIC, at)])) == [record]


VALUES = st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(-1e99, 1e99)
ABOUT = st.dictionaries(
    TEXT.filter(bool), TEXT | st.booleans() | st.integers(0, 99) | st.floats(-1e9, 1e9), max_size=3
)
POINTS = st.tuples(
    TEXT.filter(bool), VALUES, WHOLE.filter(bool), ABOUT, st.booleans(), WHOLE.filter(bool), SOURCES
).map(lambda drawn: HostSample(*drawn[:6])._replace(source=drawn[6]))
BUCKETS = st.lists(st.tuples(st.floats(-1e9, 1e9), st.integers(0, 1 << 40)), max_size=4)


@by_each_way
@many
@given(
    POINTS,
    BUCKETS,
    st.integers(0, 1 << 40),
    st.floats(-1e99, 1e99),
    st.sampled_from(["gauge", "sum", "histogram"]),
)
def test_a_point(way: str, sample: HostSample, buckets: Any, last: int, total: float, kind: str) -> None:
    _, _, metrics, back = WAYS[way]
    if kind == "gauge":
        sample = sample._replace(is_delta=False, start_time=None)
    elif kind == "histogram":
        counts = (*(count for _, count in buckets), last)
        bounds = tuple(bound for bound, _ in buckets)
        sample = sample._replace(value=sum(counts), sum=total, bounds=bounds, counts=counts)
    (found,) = back(metrics(metric_of(sample)))
    assert isinstance(found, HostSample)
    assert found._replace(start_time=found.start_time or None) == sample


def test_each_field_is_an_attribute_or_the_carriers_own() -> None:
    times, place = {"start", "end", "at", "time"}, {"trace_id", "span_id", "parent_id", "source"}
    for cls, table in schema.ATTRIBUTES.items():
        fields: tuple[str, ...] = cls._fields  # type: ignore[attr-defined]  # known at run time alone
        assert set(fields) - set(table) <= times | place | {"name"}, cls
        assert len(set(table.values())) == len(table), cls


SAME_MEANING = {
    str(semconv.COLLECTIVE_SIZE): "bytes of the buffer of one collective: the metric is their distribution",
    str(semconv.STEP_COLLECTIVE_TIME): "time of a step in collectives: the metric is their distribution",
}
"""Names of an attribute and of a metric too, and why that is one meaning."""


def test_no_name_means_two_things() -> None:
    meanings: dict[str, set[Any]] = {}
    for table in schema.ATTRIBUTES.values():
        for each in table.values():
            meanings.setdefault(str(each), set()).add((each.type, each.unit, each.description))
    assert all(len(said) == 1 for said in meanings.values())
    metrics = {metric.name: metric for metric in semconv.METRICS}
    both = {str(each): each for each in (*semconv.ATTRIBUTES, *semconv.RESOURCE_ATTRIBUTES) if each in metrics}
    assert both.keys() == SAME_MEANING.keys()
    for name, attribute in both.items():
        assert isinstance(attribute, semconv.Attribute) and attribute.unit == metrics[name].unit
