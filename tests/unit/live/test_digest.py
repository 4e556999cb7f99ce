"""What a rank tells is read as it was told, and nothing else is taken for it."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from otel_netmon.diagnosis.evidence import CallSeen
from otel_netmon.diagnosis.steps import StepSample
from otel_netmon.live.digest import (
    MOST_CALLS,
    MOST_STEPS,
    Digest,
    DigestedCall,
    DigestedStep,
    GroupHead,
    pack,
    unpack,
)
from otel_netmon.records import HostTraffic, PeerTraffic

whole = st.integers(0, 1 << 60)
small = st.integers(0, 1 << 31)
perhaps = st.none() | whole
names = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20)
micros = st.none() | st.integers(0, 10**12).map(lambda value: value / 1e6)
samples = st.builds(
    lambda start, length, *rest: StepSample(start, start + length, *rest),
    whole, small, micros, micros, micros, micros, micros, micros, micros, perhaps, perhaps, micros,
)  # fmt: skip
steps = st.lists(st.builds(DigestedStep, small, small, samples), max_size=5).map(tuple)
traffic = st.builds(
    PeerTraffic,
    peer=small, host=st.none(), interval=small.map(lambda value: value / 1e6), connections=st.just(0),
    bytes_sent=perhaps, bytes_received=st.none(), segments_sent=perhaps, retransmits=small, rtt=micros,
    rtt_variation=st.none(), min_rtt=micros, busy_time=micros, rwnd_limited_time=st.none(),
    sndbuf_limited_time=st.none(), delivery_rate=st.none(), backoff=small, unacked=st.just(0), unread=small,
    at=whole, rank=st.none(), shortest_rtt=micros,
    address=st.none(), trace_id=st.just(""), parent_id=st.none(), source=st.none(),
)  # fmt: skip
calls = st.builds(
    DigestedCall, names, whole, st.builds(CallSeen, names, perhaps, whole, perhaps, st.none() | names, st.none())
)
nics = st.builds(
    HostTraffic, names, small.map(lambda value: value / 1e6), whole, whole, whole, whole, rank=st.none(), at=whole,
    source=st.none(),
)  # fmt: skip
heads = st.integers(-1, 1 << 40)
digests = st.builds(
    Digest, small, small, names, small, whole, perhaps, st.booleans(), perhaps, steps,
    st.lists(traffic, max_size=3).map(tuple),
    st.lists(st.builds(GroupHead, names, small, heads, heads), max_size=3).map(tuple),
    st.lists(calls, max_size=3).map(tuple),
    st.lists(nics, max_size=3).map(tuple),
)  # fmt: skip


@given(digests)
def test_what_is_packed_is_read_back(digest: Digest) -> None:
    assert unpack(pack(digest)) == digest


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=12), max_leaves=40,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_anything_else_is_no_digest(data: bytes) -> None:
    assert unpack(data) is None


@given(digests, st.data())
def test_a_damaged_digest_does_no_harm(digest: Digest, data: Any) -> None:
    packed = pack(digest)
    place = data.draw(st.integers(0, len(packed) - 1))
    unpack(packed[:place] + bytes((data.draw(st.integers(0, 255)),)) + packed[place + 1 :])
    unpack(packed[:place])


def test_the_newest_of_too_much_is_told_in_few_bytes() -> None:
    sample = StepSample(
        1795600978313587270,
        1795600979005624348,
        0.666009,
        0.002240,
        0.0,
        0.027643,
        0.016238,
        0.055510,
        calls=25,
        size=4202500,
        waited=0.300712,
    )
    many = tuple(DigestedStep(number, 0xFFFFFFFF, sample) for number in range(10_000, 10_100))
    stuck = tuple(DigestedCall("0", number, CallSeen("all_reduce", 8, 1, None)) for number in range(100))
    digest = Digest(9999, 10_000, "host", 7, 8, None, False, None, many, (), (), stuck)
    read = unpack(pack(digest))
    assert read is not None
    assert read.steps == many[-MOST_STEPS:]
    assert read.calls == stuck[-MOST_CALLS:]
    assert len(pack(digest._replace(calls=()))) <= 200 * MOST_STEPS
