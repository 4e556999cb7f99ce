"""One step that stood still, and pauses that come back."""

from __future__ import annotations

import pytest

from otel_netmon.diagnosis.diagnose import diagnose
from otel_netmon.diagnosis.evidence import Evidence
from otel_netmon.diagnosis.finding import Cause, Kind
from otel_netmon.records import PeerTraffic
from tests.unit.diagnosis.evidence import Change, job, reading, ring

STOP = 4.0


def stopped(change: Change = lambda _evidence, _rank, readings: readings, /, **fields: float) -> Evidence:
    """Rank 2 takes 4 s longer in step 25, by these fields."""
    return ring(job(steps=60, extra=lambda step, rank: fields if rank == 2 and step == 25 else {}), change=change)


@pytest.mark.parametrize(
    ("fields", "cause"),
    [
        ({"own": STOP}, Cause.UNKNOWN),
        ({"own": STOP, "gc": STOP}, Cause.GC),
        ({"own": STOP, "data": STOP}, Cause.INPUT),
        ({"own": STOP, "run_queue": STOP}, Cause.CONTENTION),
    ],
)
def test_a_rank_that_paused_once(fields: dict[str, float], cause: Cause) -> None:
    finding = diagnose(stopped(**fields))[0]
    assert (finding.kind, finding.ranks, finding.cause) == (Kind.PAUSED, (2,), cause)
    assert (finding.first_step, finding.last_step) == (25, 25)
    assert finding.lost == pytest.approx(STOP, rel=0.05)
    assert finding.sentence.startswith("Step 25 stood still for 4.")


def test_a_process_that_was_stopped_reads_nothing_either() -> None:
    def none_meanwhile(evidence: Evidence, rank: int, readings: list[PeerTraffic]) -> list[PeerTraffic]:
        if rank != 2:
            return readings
        start, end = evidence.steps[25].start[2], evidence.steps[25].end[2]
        return [
            each._replace(interval=STOP + 0.3) if end <= each.at < end + 600_000_000 else each
            for each in readings
            if not start < each.at < end
        ]

    finding = diagnose(stopped(none_meanwhile, own=STOP))[0]
    assert (finding.kind, finding.ranks) == (Kind.FROZEN, (2,))


def test_a_link_that_was_away() -> None:
    def timeouts(evidence: Evidence, rank: int, readings: list[PeerTraffic]) -> list[PeerTraffic]:
        at = evidence.steps[25].end[rank] - 10**9
        more = [peer for own, peer in ((1, 2), (2, 3), (2, 1)) if own == rank]
        return [*readings, *(reading(peer, at, 0, 0.0, 0.003, 2, 2, backoff=4) for peer in more)]

    stood = job(steps=60, extra=lambda step, rank: {"in_collectives": STOP} if step == 25 else {})
    finding = diagnose(ring(stood, change=timeouts))[0]
    assert (finding.kind, finding.ranks) == (Kind.FLAPPING, (2,))


def test_without_a_sign_nobody_is_named() -> None:
    evidence = ring(job(steps=60, extra=lambda step, rank: {"in_collectives": STOP} if step == 25 else {}))
    finding = diagnose(evidence)[0]
    assert (finding.kind, finding.accuses) == (Kind.STOPPED, False)


@pytest.mark.parametrize("in_gc", [True, False])
def test_pauses_that_come_back(in_gc: bool) -> None:
    pause = {"own": 0.3, "gc": 0.3 * in_gc}
    finding = diagnose(job(steps=70, extra=lambda step, rank: pause if rank == 2 and step % 10 == 5 else {}))[0]
    assert (finding.kind, finding.ranks) == (Kind.PAUSES, (2,))
    assert finding.cause is (Cause.GC if in_gc else Cause.UNKNOWN)
    assert (finding.first_step, finding.last_step) == (5, 65)


def test_a_collector_on_another_thread_counts() -> None:
    """It holds the lock that the training wants, and shows in no own time where the training waits."""
    finding = diagnose(
        job(steps=70, extra=lambda step, rank: {"gc": 0.3} if rank == 2 and step % 10 == 5 else {})
    )[0]
    assert (finding.kind, finding.ranks, finding.cause) == (Kind.PAUSES, (2,), Cause.GC)


def test_pauses_of_all_ranks_are_nobodys() -> None:
    evidence = job(steps=70, extra=lambda step, rank: {"own": 0.3} if (step + rank) % 10 == 5 else {})
    assert diagnose(evidence)[0].kind is Kind.NOTHING
