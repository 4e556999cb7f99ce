"""Calls of steps that were not sampled, as far as a step tells of them."""

from __future__ import annotations

from typing import Any

from otel_netmon.analysis.counted import Amount
from otel_netmon.analysis.operations import Operations
from otel_netmon.analysis.results import OperationSummary
from otel_netmon.analysis.waiting import Matcher
from otel_netmon.records import Call, Collective, GroupUse, RankStep

SPAN = Collective("all_reduce", "0", "gloo", size=10, algbw=5.0, end=2_000_000_000)


def step(*calls: tuple[str, str, int | None], groups: dict[str, tuple[int, int, int | None]]) -> RankStep:
    """Of calls as operation, group and duration; groups as calls, bytes and last number."""
    return RankStep(
        "rank_step",
        calls=tuple(Call(operation, group, 0, duration) for operation, group, duration in calls),
        groups=tuple(
            GroupUse(name, calls, size, None, last, None) for name, (calls, size, last) in groups.items()
        ),
    )


def found(operations: Operations, counted: Any = None, apart: tuple[str, ...] = ()) -> dict[str, OperationSummary]:
    return {one.operation: one for one in operations.summaries(counted or {}, apart)}


def test_a_group_of_one_operation_tells_its_bytes_and_all_its_calls() -> None:
    operations = Operations()
    operations.add(SPAN, 0, "i", 2.0)
    operations.add_step(step(("all_reduce", "0", 1_000_000), groups={"0": (600, 40, 600)}), 1, "j")
    one = found(operations)["all_reduce"]
    assert (one.calls, one.spans, one.size, one.timed, one.ranks, one.p50) == (601, 1, 50, 2, 2, 1.0)
    assert (one.backend, one.algbw) == ("gloo", 5.0)


def test_bytes_of_several_operations_on_a_group_are_not_guessed() -> None:
    operations = Operations()
    operations.add_step(step(("all_reduce", "0", 1), ("barrier", "0", None), groups={"0": (2, 40, 2)}), 0, "i")
    assert {name: (one.calls, one.size, one.timed) for name, one in found(operations).items()} == {
        "all_reduce": (1, None, 1),
        "barrier": (1, None, 0),
    }
    counted = {("i", ("all_reduce", "0", "gloo")): Amount(calls=1, size=40, rank=0)}
    one = found(operations, counted)["all_reduce"]
    assert (one.calls, one.size, one.backend) == (1, 40, "gloo")


def test_calls_of_a_process_with_traces_apart_are_not_counted_twice() -> None:
    operations = Operations()
    operations.add(SPAN, 0, "i", 2.0)
    operations.add_step(step(("all_reduce", "0", 1), groups={"0": (1, 40, 1)}), 0, "i")
    one = found(operations, apart=("i",))["all_reduce"]
    assert (one.calls, one.timed) == (1, 1)


def test_of_two_backends_none_is_guessed() -> None:
    operations = Operations()
    for backend in ("gloo", "nccl"):
        operations.add(SPAN._replace(backend=backend), 0, "i", 2.0)
    operations.add_step(step(("all_reduce", "0", 1), groups={"0": (1, 40, 1)}), 0, "i")
    keys = [(one.backend, one.calls) for one in operations.summaries({}, ())]
    assert keys == [("", 1), ("gloo", 1), ("nccl", 1)]


def matched(*steps: RankStep, sizes: dict[str, int] | None = None) -> tuple[int, int]:
    matcher = Matcher()
    for rank, one in enumerate(steps):
        matcher.add_step(1, rank, one)
    measured = matcher.measure({1: 1}, {1: 1.0}, {"0": 2} if sizes is None else sizes)
    return measured.matched, measured.unmatched


def test_calls_are_numbered_back_from_the_last_of_their_group() -> None:
    both = step(("all_reduce", "0", 5), ("all_reduce", "0", 7), groups={"0": (2, 0, 9)})
    assert matched(both, both) == (2, 0)
    twice = both._replace(groups=both.groups * 2)  # as no writer would
    assert matched(twice, both) == (2, 0)
    assert matched(both, both, sizes={}) == (0, 2)  # of how many ranks is not known
    assert matched(both, both, sizes={"0": 1}) == (0, 0)
    ahead = step(("all_reduce", "0", 5), groups={"0": (1, 0, 10)})
    assert matched(both, ahead) == (0, 3)
    sends = step(("send", "0", 1), ("all_reduce", "0", 7), groups={"0": (2, 0, 9)})
    assert matched(sends, step(("all_reduce", "0", 5), groups={"0": (1, 0, 9)})) == (1, 0)


def test_calls_of_which_some_are_not_told_are_not_numbered() -> None:
    some = step(("all_reduce", "0", 5), groups={"0": (600, 0, 900)})
    assert matched(some, some) == (0, 0)
    unknown = step(("all_reduce", "0", None), groups={"0": (1, 0, 9)})
    assert matched(unknown, step(("all_reduce", "0", 5), groups={"0": (1, 0, 9)})) == (0, 1)


def test_a_span_and_a_call_meet() -> None:
    matcher = Matcher()
    matcher.add((1, "0", "all_reduce"), 9, 2, 0, 0.5)
    matcher.add_step(1, 1, step(("all_reduce", "0", 5), groups={"0": (1, 0, 9)}))
    assert matcher.measure({1: 1}, {1: 1.0}, {}).matched == 1
