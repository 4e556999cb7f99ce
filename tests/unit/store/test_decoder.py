"""Attributes of the wrong sort cost themselves alone, and what is packed in one is not trusted either."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_netmon import schema, semconv
from otel_netmon.records import Call, Collective, GroupUse, Heartbeat, InFlight, PeerTraffic, RankStep
from otel_netmon.store.decoder import Decoder
from otel_netmon.store.problems import Problems
from tests.wrote import read_from


def step_of(attribute: str, text: str) -> tuple[Any, int]:
    return read_from(RankStep, {attribute: text}, name="rank_step")


@pytest.mark.parametrize(
    "bad",
    [
        *("", "[", "[1]", "{}" * 3, "[" * 9999, "7", "null", '[["0", 1]]', '[["0", 1, 2, 3, 4]]'),
        *('[["0", true, 2, 3, 4, 5]]', '[["0", 1.5, 2, 3, 4, 5]]', "[[0, 1, 2, 3, 4, 5]]"),
        *('[["0", NaN, 2, 3, 4, 5]]', '[["0", 1, 2, 3, 4, 5, 6]]'),
        f'[["0", {1 << 63}, 2, 3, 4, 5]]',
        f'[["0", {"1" * 5000}, 2, 3, 4, 5]]',
        f'[["0", 1, 2, 3, 4, 5{" " * (1 << 18)}]]',
    ],
)
def test_packed_attributes_that_are_damaged_count_as_absent(bad: str) -> None:
    found, wrong = step_of(semconv.STEP_GROUPS, bad)
    assert found is not None and (found.groups, wrong) == ((), 1)


def test_packed_attributes_that_are_not() -> None:
    found, wrong = step_of(semconv.STEP_GROUPS, json.dumps([["0", 1, 2, None, 4, 8]]))
    assert (found.groups, wrong) == ((GroupUse("0", 1, 2, None, 4, 8),), 0)


CALLS: dict[str, Any] = {"kinds": [["all_reduce", "0"]], "kind": [0, 0], "after": [1, 4], "duration": [2, None]}


@pytest.mark.parametrize(
    "bad",
    [
        *({"kind": [0, 1]}, {"kind": [0, -1]}, {"kind": [0, True]}, {"kind": [0]}, {"kind": None}),
        *({"after": [1, 2.5]}, {"after": ["1", "2"]}, {"after": [1, 1 << 63]}, {"after": "12"}),
        *({"after": [True, 1]}, {"after": [(1 << 63) - 1, 1]}, {"after": [1]}, {"after": None}),
        *({"duration": [1, False]}, {"duration": [-(1 << 64), 1]}, {"kinds": [["all_reduce"]]}, {"kinds": 7}),
    ],
)
def test_packed_calls_that_are_damaged(bad: dict[str, Any]) -> None:
    good, wrong = step_of(semconv.STEP_COLLECTIVES, json.dumps(CALLS))
    assert (good.calls, wrong) == ((Call("all_reduce", "0", 1, 2), Call("all_reduce", "0", 5, None)), 0)
    found, wrong = step_of(semconv.STEP_COLLECTIVES, json.dumps(CALLS | bad))
    assert (found.calls, wrong) == ((), 1)


def test_packed_calls_take_four_bytes_for_each_of_what_start_and_duration() -> None:
    """Of a step of half a second with 200 collectives, by threes on three groups."""
    chance = random.Random(1)
    kinds = [("all_reduce", "0"), ("all_gather_into_tensor", "tp"), ("reduce_scatter_tensor", "dp")]
    calls, at = [], 0
    for number in range(200):
        at += int(chance.expovariate(1 / 2500))
        calls.append(Call(*kinds[number % 3], at, int(chance.expovariate(1 / 1500))))
    text = schema.attributes(RankStep("rank_step", calls=tuple(calls)))[semconv.STEP_COLLECTIVES]
    assert isinstance(text, str) and len(text) <= 200 * 3 * 4
    assert schema.unpack(semconv.STEP_COLLECTIVES, text) == tuple(calls)


def test_packed_calls_of_older_files() -> None:
    old = {key: value for key, value in CALLS.items() if key != "after"} | {"start": [1, 5]}
    found, wrong = step_of(semconv.STEP_COLLECTIVES, json.dumps(old))
    assert (found.calls, wrong) == ((Call("all_reduce", "0", 1, 2), Call("all_reduce", "0", 5, None)), 0)


def test_a_heartbeat_with_an_age_beyond_all_numbers() -> None:
    for age, ages in ((10**400, ()), (1_500_000, (1.5,))):
        text = json.dumps([["all_reduce", "0", 1, None, age]]) if age < 10**9 else f'[["a", "0", 1, null, {age}]]'
        found, _ = read_from(Heartbeat, {semconv.HEARTBEAT_IN_FLIGHT: text})
        assert found is not None and tuple(each.age for each in found.in_flight) == ages


def test_packed_names_are_fit_for_a_terminal() -> None:
    found, _ = step_of(semconv.STEP_GROUPS, json.dumps([["\x1b]0;" + "n" * 999, 1, 2, 3, 4, 5]]))
    (group,) = found.groups
    assert group.group == "?]0;" + "n" * 252


def test_a_record_without_what_it_has_to_have_is_none() -> None:
    assert read_from(Collective, {semconv.RANK: 1}) == (None, 0)
    assert read_from(InFlight, {semconv.COLLECTIVE_NAME: "x", semconv.GROUP_NAME: "0"}) == (None, 0)
    assert read_from(PeerTraffic, {semconv.PEER_RANK: 1})[0] is None
    found, wrong = read_from(Collective, {semconv.COLLECTIVE_NAME: "x", semconv.RANK: "1"}, start=5)
    assert (found and (found.operation, found.rank, found.start), wrong) == (("x", None, 5), 1)


def test_what_is_never_negative_is_not_read_as_such() -> None:
    found, wrong = read_from(Collective, {semconv.COLLECTIVE_NAME: "x", semconv.RANK: -1})
    assert (found and found.rank, wrong) == (None, 1)


JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
PACKED = sorted(schema.PACKED)


@given(st.sampled_from(PACKED), JUNK, st.dictionaries(st.sampled_from(sorted(CALLS)), JUNK))
def test_any_json_may_be_packed(attribute: str, junk: Any, calls: Any) -> None:
    cls: Any = Heartbeat if attribute.startswith("torch.distributed.heartbeat") else RankStep
    for packed in (junk, {**CALLS, **calls}):
        pairs = [{"key": attribute, "value": {"stringValue": json.dumps(packed)}}]
        tail = (1, None) if cls is Heartbeat else (1, 2, "", "", None, None)
        assert Decoder(cls)(pairs, Problems(), tail, () if cls is Heartbeat else ("rank_step",)) is not None


def test_what_is_remembered_of_texts_is_bounded() -> None:
    decode, problems = Decoder(Collective), Problems()
    for number in range(5000):
        texts = {semconv.COLLECTIVE_NAME: "x" * (number % 3000), semconv.GROUP_NAME: str(number)}
        pairs = [{"key": str(name), "value": {"stringValue": text}} for name, text in texts.items()]
        one = decode(pairs, problems, (1, 2, "", "", None, None))
        assert one is not None and one.group == str(number)
    known = [known for *_, known in decode._slots.values()]
    assert max(map(len, known)) <= 1024 and max(len(text) for each in known for text in each) < 32
