"""A rank is blamed for its own time only, and for the reason that accounts for it."""

from __future__ import annotations

import pytest

from otel_netmon import semconv
from otel_netmon.diagnosis.diagnose import diagnose
from otel_netmon.diagnosis.finding import Cause, Confidence, Kind
from tests.unit.diagnosis.evidence import Extra, job

LATE = 0.04


def from_20(**fields: float) -> Extra:
    return lambda step, rank: fields if rank == 2 and step >= 20 else {}


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({}, Cause.OFF_CPU),
        ({"cpu": LATE}, Cause.COMPUTE),
        ({"data": LATE}, Cause.INPUT),
        ({"gc": LATE, "cpu": LATE}, Cause.GC),
        ({"data": 0.3 * LATE}, Cause.OFF_CPU),
    ],
    ids=["sleep", "computes", "input", "gc", "input is not all of it"],
)
def test_a_slow_rank_is_named_with_its_cause(fields: dict[str, float], cause: Cause) -> None:
    (finding,) = diagnose(job(steps=60, extra=from_20(own=LATE, **fields)))
    assert (finding.kind, finding.ranks, finding.hosts, finding.cause) == (Kind.SLOW_RANK, (2,), ("h2",), cause)
    assert finding.lost == pytest.approx(LATE, rel=0.1)
    assert finding.lost_rank_seconds == pytest.approx(4 * LATE, rel=0.1)
    assert finding.first_step in range(18, 23) and finding.last_step == 59
    assert finding.sentence.startswith("Rank 2 comes 40 ms late in each step") and finding.sentence.endswith(".")
    assert finding.confidence is Confidence.HIGH


@pytest.mark.parametrize("ranks", [2, 3, 4, 7, 100])
@pytest.mark.parametrize("late", [0, 1])
def test_whatever_the_number_of_ranks(ranks: int, late: int) -> None:
    (finding,) = diagnose(job(ranks, extra=lambda step, rank: {"own": LATE} if rank == late else {}))
    assert (finding.kind, finding.ranks) == (Kind.SLOW_RANK, (late,))


def test_two_slow_ranks_are_both_named_the_costlier_first() -> None:
    def extra(step: int, rank: int) -> dict[str, float]:
        return {1: {"own": 0.03, "data": 0.03}, 5: {"own": 0.06}}.get(rank, {})

    findings = diagnose(job(8, extra=extra))
    assert [(each.ranks, each.cause) for each in findings] == [((5,), Cause.OFF_CPU), ((1,), Cause.INPUT)]


def test_a_host_whose_ranks_are_slow_together_is_one_finding() -> None:
    findings = diagnose(job(16, per_host=4, extra=lambda step, rank: {"own": LATE} if 4 <= rank < 8 else {}))
    (finding,) = findings
    assert (finding.ranks, finding.hosts) == ((4, 5, 6, 7), ("h1",))
    assert "Ranks 4, 5, 6 and 7 of host h1 come" in finding.sentence


@pytest.mark.parametrize("late_in", [(1,), (1, 2)], ids=["a third", "two thirds"])
def test_a_rank_that_is_late_in_many_steps(late_in: tuple[int, ...]) -> None:
    late = {"own": LATE, "data": LATE}
    (finding,) = diagnose(
        job(steps=60, extra=lambda step, rank: late if rank == 2 and step % 3 in late_in else {})
    )
    assert (finding.kind, finding.ranks, finding.cause) == (Kind.SLOW_RANK, (2,), Cause.INPUT)
    assert "Rank 2 comes late in" in finding.sentence and "of 58 steps" in finding.sentence
    assert finding.lost == pytest.approx(LATE * len(late_in) / 3, rel=0.15)


def test_a_late_bucket_is_seen_where_transfers_overlap() -> None:
    (finding,) = diagnose(job(extra=lambda step, rank: {"issued": LATE} if rank == 2 else {}))
    assert (finding.kind, finding.ranks) == (Kind.SLOW_RANK, (2,))
    assert "time until its last collective is issued" in finding.sentence


@pytest.mark.parametrize(
    "extra",
    [
        lambda step, rank: {},
        lambda step, rank: {"own": 0.05 * (step % 7) / 7},
        lambda step, rank: {"own": 0.002 * rank},
        lambda step, rank: {"own": LATE} if rank == step % 4 else {},
        lambda step, rank: {"own": 3.0} if step < 2 and rank == 1 else {},
        lambda step, rank: {"in_collectives": LATE},
        lambda step, rank: {"in_collectives": -0.1} if rank == 2 else {},
    ],
    ids=["even", "steps vary", "little", "in turn", "at the start", "slow network", "short waits"],
)
def test_nobody_is_blamed_without_cause(extra: Extra) -> None:
    (finding,) = diagnose(job(extra=extra))
    assert finding.kind is Kind.NOTHING, finding.sentence


def test_a_rank_without_cpu_is_starved_and_not_slow() -> None:
    evidence = job(extra=lambda step, rank: {"own": LATE, "run_queue": LATE} if rank == 2 else {})
    (finding,) = diagnose(evidence)
    assert (finding.kind, finding.ranks, finding.cause) == (Kind.STARVED, (2,), Cause.CONTENTION)
    assert "whether a quota stops it is not known" in finding.sentence

    first, last = evidence.steps[0].start[2], evidence.steps[39].end[2]
    readings = [(at, 0.3 * (at - first) / 1e9) for at in range(first, last, 10**9)]
    evidence.counters["h2"] = {(semconv.CGROUP_THROTTLED.name, "i", ()): readings}
    (finding,) = diagnose(evidence)
    assert (finding.kind, finding.cause) == (Kind.STARVED, Cause.QUOTA)
    assert "stops its cgroup for 0.30 s of each second" in finding.sentence

    for table in evidence.steps.values():  # what the steps themselves say comes first
        table.throttled[2] = 0.5 * table.duration[2]
    (finding,) = diagnose(evidence)
    assert "stops its cgroup for 0.50 s of each second" in finding.sentence


def test_a_quota_that_stops_a_rank_needs_less_of_the_run_queue() -> None:
    """The kernel does not count all of the time in which a cgroup is stopped as waiting."""
    evidence = job(extra=lambda step, rank: {"run_queue": 0.012} if rank == 2 and step % 4 else {})
    assert diagnose(evidence)[0].kind is Kind.NOTHING
    first, last = evidence.steps[0].start[2], evidence.steps[39].end[2]
    readings = [(at, 0.6 * (at - first) / 1e9) for at in range(first, last, 10**9)]
    evidence.counters["h2"] = {(semconv.CGROUP_THROTTLED.name, "i", ()): readings}
    (finding,) = diagnose(evidence)
    assert (finding.kind, finding.ranks, finding.cause) == (Kind.STARVED, (2,), Cause.QUOTA)


def test_what_is_known_of_every_tenth_step_is_too_little() -> None:
    """Where spans are sampled, the last asynchronous collective is known in those steps only."""
    evidence = job(extra=lambda step, rank: {"issued": LATE} if rank == 2 else {})
    for number, table in evidence.steps.items():
        if number % 10:
            table.issued = type(table.issued)("d", [float("nan")] * len(table.issued))
    assert diagnose(evidence)[0].kind is Kind.NOTHING


def test_pipeline_stages_are_compared_with_their_like() -> None:
    """Stage 1 (ranks 4 to 7) computes 50 ms longer by design; rank 6 is slow in it."""
    evidence = job(8, extra=lambda step, rank: {"own": 0.05 * (rank > 3) + LATE * (rank == 6)})
    for table in evidence.steps.values():
        table.work.update({rank: (3 + (rank > 3), 100) for rank in range(8)})
    (finding,) = diagnose(evidence)
    assert finding.ranks == (6,)
    assert finding.lost == pytest.approx(LATE, rel=0.1)


def test_too_little_is_said_to_be() -> None:
    assert diagnose(job(steps=11))[0].kind is Kind.INSUFFICIENT
    assert diagnose(job(ranks=1))[0].kind is Kind.INSUFFICIENT
    evidence = job()
    evidence.world_size = 6
    (finding,) = diagnose(evidence)
    assert finding.kind is Kind.INSUFFICIENT and "ranks 4 and 5" in finding.sentence


def test_a_rank_that_misses_some_steps_is_judged_by_the_others() -> None:
    evidence = job(20, extra=lambda step, rank: {"own": LATE} if rank == 2 else {})
    for number in range(10, 14):
        table = evidence.steps[number]
        del table.work[7]
        for column in (table.duration, table.own, table.running):
            column[7] = float("nan")
    assert diagnose(evidence)[0].ranks == (2,)
