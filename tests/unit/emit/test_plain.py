"""Plain calls, of which nothing is made in Python one by one: what is emitted is what their events would give."""

from __future__ import annotations

import json
import random
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest

from otel_netmon import semconv
from otel_netmon.capture.backends.native import NativeBackend
from otel_netmon.capture.event import CollectiveEvent
from otel_netmon.capture.plain import RECORD_BYTES, PlainCalls
from otel_netmon.delivery.otlp_json import Json
from otel_netmon.delivery.otlp_protobuf import Protobuf, varint
from otel_netmon.emit.attribute_sets import AttributeSet
from otel_netmon.emit.encoding import CollectiveEncoder, Trace
from otel_netmon.emit.interval_stats import IntervalStats
from otel_netmon.emit.intervals import of_step
from otel_netmon.emit.unsent import Unsent
from otel_netmon.job.collective_window import window
from otel_netmon.job.identity import RunId
from otel_netmon.job.roles import RankIdentity
from otel_netmon.job.steps import Step, StepMarks
from otel_netmon.schema import attributes
from otel_netmon.text import as_json
from tests.unit.capture.a_backend import Captured, Pair, built
from tests.unit.emit.a_rank import RUN, Rank
from tests.unit.official import RESOURCE, SCOPE

torch: Any = pytest.importorskip("torch", reason="pip install torch")
dist: Any = torch.distributed

pytestmark = built()

EPOCH = 1_700_000_000_000_000_000
_RECORD = struct.Struct("<Qqqqq16sQ")


@pytest.fixture
def native() -> Iterator[Captured]:
    """Of one rank, that says it is one of four."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    captured = Captured(NativeBackend, capacity=4096)
    yield captured
    captured.close()
    dist.destroy_process_group()


def call(count: int) -> None:
    """Collectives of all sorts, as many."""
    tensors = [torch.ones(size) for size in (1, 4, 4, 300, 70_000)] + [torch.ones(9, dtype=torch.bfloat16)]
    for number in range(count):
        some = tensors[number % len(tensors)]
        match number % 5:
            case 0:
                dist.barrier()
            case 1:
                dist.broadcast(some, 0)
            case 2:
                dist.all_gather_into_tensor(torch.empty_like(some), some)
            case _:
                dist.all_reduce(some, async_op=number % 2 == 0)


def wait_for(native: Captured, count: int) -> None:
    """Until that many have ended: completions come from gloo's threads."""
    deadline = time.monotonic() + 10
    while native.ring.waiting < count and time.monotonic() < deadline:
        time.sleep(0.001)
    assert native.ring.waiting == count


def taken(native: Captured, count: int) -> PlainCalls:
    """Once that many have ended."""
    wait_for(native, count)
    plain, events = native.ring.take(4096)
    assert plain is not None and not events
    return plain


def scattered(calls: PlainCalls, seed: int) -> PlainCalls:
    """The same, at other times and with other numbers, that are as long as theirs."""
    chance = random.Random(seed)
    records = bytearray()
    for ticket, start, end, sequence, boundary, rest, outcome in _RECORD.iter_unpack(calls._bytes()):
        length = len(varint(sequence))
        least = 1 if length == 1 else 1 << 7 * (length - 1)
        start = chance.randrange(10**12, 10**12 + 10**9)
        end = start + chance.choice([1, chance.randrange(1, 10**4), chance.randrange(1, 10**11)])
        number = chance.randrange(least, 1 << 7 * length)
        records += _RECORD.pack(ticket, start, end, number, boundary, rest, outcome)
    return PlainCalls(calls._kinds, bytes(records))


def about_of(calls: PlainCalls, rank: RankIdentity | None = None) -> None:
    rank = rank or RankIdentity(3, 1, 4)
    for kind in calls.kinds():
        kind.about = AttributeSet(kind.group, kind.operation, kind.on_host, rank)


@pytest.mark.parametrize("seed", range(20))
def test_spans_are_those_of_the_events(native: Captured, seed: int) -> None:
    call(300)
    calls = scattered(taken(native, 300), seed)
    about_of(calls)
    of, ids = Trace(seed << 100 | 77, 1 << 63 | seed, EPOCH, 0), range(2**63 - 5, 2**63 + 295)
    protobuf, text = Protobuf(), Json()
    for _ in range(2):  # templates are made, then used
        spans = CollectiveEncoder(protobuf).encode_plain([(calls, ids[0], of)])
        assert spans == CollectiveEncoder(protobuf).encode(calls.events(), ids, None, of)
        line = text.request(RESOURCE, SCOPE, [CollectiveEncoder(text).encode_plain([(calls, ids[0], of)])])
        expected = CollectiveEncoder(text).encode(calls.events(), ids, None, of)
        assert json.loads(line) == json.loads(text.request(RESOURCE, SCOPE, [expected]))


def test_spans_of_several_steps_are_below_their_own_parents(native: Captured) -> None:
    call(20)
    calls = taken(native, 20)
    about_of(calls)
    parts = [(calls.part(0, 5), 10, Trace(1, 2, EPOCH, 0)), (calls.part(5, 15), 90, Trace(3, 4, EPOCH, 0))]
    encoder = CollectiveEncoder(Protobuf())
    assert encoder.encode_plain(parts) == b"".join(
        encoder.encode(part.events(), range(first, first + len(part)), None, of) for part, first, of in parts
    )


def test_a_kind_whose_rank_became_known_says_so(native: Captured) -> None:
    call(1)
    calls = taken(native, 1)
    encoder = CollectiveEncoder(Json())
    for rank in (None, 3):
        about_of(calls, RankIdentity(rank, None, None))
        text = encoder.encode_plain([(calls, 1, Trace(1, 2, EPOCH, 0))])
        assert (b"torch.distributed.rank" in text) == (rank is not None)


@pytest.mark.parametrize("seed", range(10))
def test_sums_of_a_step_are_those_of_the_events(native: Captured, seed: int) -> None:
    call(600)
    calls = scattered(taken(native, 600), seed)
    start, end = 10**12 + 10**8 * (seed % 3), 10**12 + 10**9
    plain, single = IntervalStats(), IntervalStats()
    plain.add_plain(calls.part(0, 100))
    plain.add_plain(calls.part(100, 500))
    single.add(calls.events())
    found, expected = plain.sums(start, end), single.sums(start, end)
    assert found[:-1] == expected[:-1]
    calls_of = [attributes_of(each.calls) for each in (found, expected)]
    assert calls_of[0] == calls_of[1]


def attributes_of(calls: Any) -> list[Any]:
    """As they are read: kinds are numbered as they come."""
    from otel_netmon import records, schema

    record = records.RankStep("rank_step", calls=calls)
    text = attributes(record)[semconv.STEP_COLLECTIVES]
    assert isinstance(text, str) and as_json(json.loads(text)) == text
    return list(schema.unpack(semconv.STEP_COLLECTIVES, text) or ())


def test_sums_of_plain_calls_and_events_are_those_of_all(native: Captured) -> None:
    call(50)
    calls = taken(native, 50)
    mixed, single = IntervalStats(), IntervalStats()
    mixed.add_plain(calls.part(0, 20))
    mixed.add(calls.part(20, 30).events())
    single.add(calls.events())
    assert mixed.sums(0, 2**62)[:-1] == single.sums(0, 2**62)[:-1]


def test_metrics_are_those_of_the_events(native: Captured) -> None:
    call(200)
    calls = scattered(taken(native, 200), 1)
    found = []
    for is_plain in (True, False):
        rank = Rank()
        window.after_fork_in_child()
        if is_plain:
            rank.emitter.take_plain(calls)
        else:
            rank.emitter.take(calls.events())
        names = (semconv.COLLECTIVE_DURATION_METRIC, semconv.COLLECTIVE_SIZE_METRIC, semconv.COLLECTIVE_IO_METRIC)
        points = [point for name in names for point in rank.points(name.name)]
        said = [
            (sorted(each.attributes.items()), getattr(each, "bucket_counts", None), *_amounts(each))
            for each in points
        ]
        columns = {
            key: sorted(zip(one.sizes, one.durations, strict=True)) for key, one in window.read()[0].items()
        }
        found.append((sorted(said, key=str), columns))
    assert found[0] == found[1] and found[0][0]


def _amounts(point: Any) -> tuple[Any, ...]:
    values = (getattr(point, name, None) for name in ("sum", "min", "max", "value"))
    return tuple(None if value is None else pytest.approx(value) for value in values)


def test_what_is_emitted_is_in_the_steps(native: Captured) -> None:
    """By way of the ring; calls of a step that is not known yet wait for it."""
    rank = Rank()
    for boundary in (0, 1, 2):
        call(10)
        native.steps.constructed()
        wait_for(native, 10 * (boundary + 1))
    plain, events = native.ring.take(4096)
    assert plain is not None and len(plain) == 30 and not events
    rank.emitter.take_plain(plain)
    steps = [Step(n, last_boundary=n, start=0, end=2**62) for n in (0, 1)]
    rank.emitter.marks(StepMarks(steps, 2, 1))
    rank.emitter.emit(RUN)
    rank.emitter.emit_intervals(RUN, None)
    spans = rank.exported.get_finished_spans()
    assert len(spans) == 10 + 10 + 2 * 2
    assert {span.name: (span.attributes or {}).get(semconv.STEP_COLLECTIVE_COUNT) for span in spans}[
        "rank_step"
    ] == 10
    rank.emitter.marks(StepMarks([], 2, 2))
    rank.emitter.emit(RUN)
    assert len(rank.exported.get_finished_spans()) == 10 + 10 + 2 * 2 + 10 and not rank.emitter.lost


def test_more_than_may_wait_are_lost_and_counted(native: Captured) -> None:
    rank = Rank(hold=25)
    call(40)
    rank.emitter.take_plain(taken(native, 40).part(0, 20))
    assert rank.emitter.lost == 0
    call(10)
    rank.emitter.take_plain(taken(native, 10))
    assert rank.emitter.lost == 20


def test_those_of_a_foreign_group_are_events(native: Captured) -> None:
    kinds = []
    for _ in range(2):
        dist.all_reduce(torch.ones(4))
        group = native.groups.of(dist.group.WORLD)
        group.run_id = RunId("job", 30.0, foreign=True)
        wait_for(native, 1)
        plain, events = native.ring.take(10)
        assert plain is None and len(events) == 1 and isinstance(events[0], CollectiveEvent)
        kinds.append(events[0].kind)
    assert kinds[0] is kinds[1]


def test_one_that_was_said_to_hang_keeps_its_name(native: Captured) -> None:
    pair = Pair()
    native.backend.group_created(pair.first)
    pair.begin()
    (seen,) = native.ring.in_flight()
    seen.span_id = 5
    pair.end()
    wait_for(native, 1)
    plain, events = native.ring.take(10)
    assert plain is None and events == [seen] and seen.end


def test_kinds_are_bounded_and_those_in_hand_outlive_them(native: Captured) -> None:
    dist.all_reduce(torch.ones(1))
    early = taken(native, 1)
    for first in range(2, 1202, 100):
        for size in range(first, first + 100):
            dist.all_reduce(torch.ones(size))
        wait_for(native, 100)
        plain, events = native.ring.take(4096)
        assert (0 if plain is None else len(plain)) + len(events) == 100
    assert not early.is_current
    (event,) = early.events()
    assert event.size == 4
    stats = IntervalStats()
    stats.add_plain(early)
    assert stats.sums(0, 2**62).call_count == 1
    dist.all_reduce(torch.ones(3))
    assert taken(native, 1).is_current


def test_a_record_has_the_size_that_python_thinks() -> None:
    from otel_netmon.capture.native import loader

    assert loader.load().RECORD_BYTES == RECORD_BYTES == loader.RECORD.size == _RECORD.size


def test_the_last_ones_before_one_that_fails_are_events_again(native: Captured) -> None:
    call(300)
    calls = taken(native, 300)
    about_of(calls)
    unsent, step = Unsent(40), of_step(3)
    unsent.add_plain(of_step(2), calls)
    for first in range(0, 300, 30):
        unsent.add_plain(step, calls.part(first, 30))
    assert sum(map(len, unsent._plain)) < 70
    failed = CollectiveEvent(calls.events()[-1].kind, 1 << 62, 0, 301)
    failed.error = "RuntimeError"
    unsent.add(step, [failed])
    expected = sorted(calls.events(), key=lambda event: event.start)[-39:]
    assert [event.sequence for event in unsent.take(step)] == [*(event.sequence for event in expected), 301]
    assert not unsent.take(step)
