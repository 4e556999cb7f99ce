"""What is in flight is so only until something says that it ended."""

from __future__ import annotations

import pytest

from otel_netmon import semconv
from otel_netmon.analysis.evidence import collect
from otel_netmon.diagnosis.evidence import Evidence
from otel_netmon.records import Collective, GroupUse, Heartbeat, InFlight, RankStep, Source
from otel_netmon.store.reader import Known

SOURCE = Source("i", "h", 1, 1, 2)
S = 10**9


def evidence_of(*records: Known) -> Evidence:
    (found,) = collect(records).values()
    return found


def beat(second: int, *numbers: int) -> Heartbeat:
    in_flight = tuple(InFlight("all_reduce", "0", number, 8, 1.5) for number in numbers)
    return Heartbeat("run", 1, in_flight=in_flight, time=second * S, source=SOURCE)


def step(second: int, last: int, *, incomplete: bool = False) -> RankStep:
    return RankStep(
        semconv.SPAN_RANK_STEP, "run", rank=1, world_size=2, step=second, incomplete=incomplete or None,
        groups=(GroupUse("0", 1, 8, 5, last, 2),), start=second * S, end=second * S + S, trace_id=f"{second}",
        source=SOURCE,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("records", "open_numbers"),
    [
        ((beat(1, 7),), {7}),
        ((beat(1, 7), beat(2)), set()),
        ((beat(1, 7), beat(2, 9)), {9}),
        ((beat(1, 7), step(2, 7)), set()),
        ((step(2, 7), beat(3, 8)), {8}),
        ((beat(1, 7), step(2, 7, incomplete=True)), {7}),
        ((beat(1, 7), Collective("all_reduce", "0", sequence=7, start=1, end=2, source=SOURCE, rank=1)), set()),
        ((InFlight("all_reduce", "0", 7, 8, 60.0, rank=1, time=S, source=SOURCE),), {7}),
    ],
    ids=["said", "gone", "another", "its step ended", "before", "its step did not", "its span", "stalled"],
)
def test_what_is_open(records: tuple[Known, ...], open_numbers: set[int]) -> None:
    calls = evidence_of(*records).calls.get("0", {}).get(1, {})
    assert {number for number, call in calls.items() if call.end is None} == open_numbers


def test_a_damaged_file_makes_no_job_of_a_billion_ranks() -> None:
    huge = SOURCE._replace(world_size=1 << 62)
    evidence = evidence_of(step(1, 5)._replace(source=huge, world_size=None))
    assert evidence.world_size == 1 << 20
