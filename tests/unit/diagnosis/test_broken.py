"""What hangs or failed: the origin is named, and the innocent are not."""

from __future__ import annotations

from typing import Any

import pytest

from otel_netmon.diagnosis.diagnose import diagnose
from otel_netmon.diagnosis.evidence import Evidence, Exit
from otel_netmon.diagnosis.finding import Confidence, Kind
from tests.unit.diagnosis.evidence import call, job

SECOND = 10**9


def hanging(
    *, without: tuple[int, ...] = (), waited: float = 10.0, error: str | None = None, per_host: int = 1
) -> Evidence:
    """All but ``without`` are in number 80, or failed in it after ``waited`` seconds."""
    evidence = job(steps=30, per_host=per_host)
    for rank in evidence.ranks:
        call(evidence, rank, 79)
        if rank not in without:
            evidence.last_sign[rank] += int(waited * SECOND)
            start = evidence.last_sign[rank] - int(waited * SECOND)
            end = evidence.last_sign[rank] if error else None
            call(evidence, rank, 80, start=start, end=end, error=error)
    return evidence


def test_a_rank_that_hangs_before_a_collective() -> None:
    evidence = hanging(without=(2,))
    evidence.last_sign[2] += 10 * SECOND
    finding = diagnose(evidence)[0]
    assert (finding.kind, finding.ranks, finding.hosts) == (Kind.HUNG, (2,), ("h2",))
    assert finding.sentence.startswith(
        "Rank 2 never came to all_reduce number 80, which ranks 0, 1 and 3 waited in"
    )
    assert finding.lost == pytest.approx(10)


def test_it_hung_as_well_if_the_others_failed_by_their_timeout() -> None:
    evidence = hanging(without=(2,), error="RuntimeError")
    evidence.last_sign[2] += 10 * SECOND
    assert diagnose(evidence)[0].kind is Kind.HUNG


def test_a_rank_that_is_late_is_not_hung_yet() -> None:
    assert not any(each.kind is Kind.HUNG for each in diagnose(hanging(without=(2,), waited=3)))


def test_a_rank_that_died() -> None:
    evidence = hanging(without=(2,), waited=0.1, error="RuntimeError")
    finding = diagnose(evidence)[0]
    assert (finding.kind, finding.ranks, finding.confidence) == (Kind.DEAD, (2,), Confidence.MEDIUM)
    assert "stopped without a word after collective number 79" in finding.sentence

    evidence.exits[2] = Exit(None, 9)
    finding = diagnose(evidence)[0]
    assert (finding.kind, finding.ranks, finding.confidence) == (Kind.DEAD, (2,), Confidence.HIGH)
    assert "signal 9" in finding.sentence


def test_what_a_failure_says_is_said() -> None:
    """Without where in its source a library found it, and not all of it."""
    evidence = hanging(without=(2,), waited=0.1, error="RuntimeError")
    said = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [10.0.0.2]:42. "
    seen = evidence.calls["0"][1][80]
    evidence.calls["0"][1][80] = seen._replace(message=said)
    assert diagnose(evidence)[0].sentence.endswith('; rank 1 was told "Connection closed by peer [10.0.0.2]:42".')
    evidence.calls["0"][1][80] = seen._replace(message="x" * 500)
    assert diagnose(evidence)[0].sentence.endswith("x" * 120 + '…".')


def test_the_launchers_own_signal_kills_nobody() -> None:
    """The launcher ends all others with SIGTERM, once one has died."""
    evidence = hanging(without=(2,), waited=0.1, error="RuntimeError")
    evidence.exits.update({0: Exit(None, 15), 1: Exit(None, 15), 2: Exit(3, None), 3: Exit(1, None)})
    finding = diagnose(evidence)[0]
    assert (finding.kind, finding.ranks) == (Kind.DEAD, (2,))
    assert "ended with exit code 3" in finding.sentence


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        ({"operation": "broadcast", "size": 4000}, "rank 2 issued broadcast"),
        ({"size": 4000}, "rank 2 issued all_reduce of 4000 bytes"),
    ],
    ids=["operation", "size"],
)
def test_a_rank_that_issues_something_else(odd: dict[str, Any], words: str) -> None:
    evidence = hanging()
    call(evidence, 2, 80, end=None, **odd)
    finding = diagnose(evidence)[0]
    assert (finding.kind, finding.ranks, finding.confidence) == (Kind.DESYNCHRONISED, (2,), Confidence.HIGH)
    assert words in finding.sentence and "ranks 0, 1 and 3 issued all_reduce of 100 bytes" in finding.sentence


def test_the_first_difference_counts_not_the_first_error() -> None:
    """Rank 2 left out number 78; rank 1 is the first that fails."""
    evidence = hanging(error="RuntimeError")
    for rank in evidence.ranks:
        call(evidence, rank, 78, size=4 if rank != 2 else 100)
    assert diagnose(evidence)[0].ranks == (2,)


def test_without_a_majority_nobody_is_named() -> None:
    evidence = hanging()
    for rank in (0, 1):
        call(evidence, rank, 80, end=None, size=4)
    finding = diagnose(evidence)[0]
    assert (finding.kind, finding.ranks) == (Kind.DESYNCHRONISED, ())
    assert "no majority" in finding.not_excluded[0]


def test_sizes_that_may_differ_by_design_do_not_count() -> None:
    evidence = hanging()
    for rank in evidence.ranks:
        call(evidence, rank, 80, end=None, operation="all_to_all", size=rank)
    assert diagnose(evidence)[0].kind is not Kind.DESYNCHRONISED


def test_who_waits_in_another_group_is_not_the_origin() -> None:
    """Rank 0 waits for rank 1 in group 0; rank 1 waits for rank 3 in group tp; rank 3 hangs."""
    evidence = job(steps=30)
    for rank in evidence.ranks:
        evidence.last_sign[rank] += 10 * SECOND
        call(evidence, rank, 79)
    for rank in (0, 2):
        call(evidence, rank, 80, end=None, start=evidence.last_sign[rank] - 9 * SECOND)
    call(evidence, 1, 12, group="tp", end=None, start=evidence.last_sign[1] - 9 * SECOND)
    call(evidence, 3, 11, group="tp")
    finding = diagnose(evidence)[0]
    assert (finding.kind, finding.ranks) == (Kind.HUNG, (3,))


def test_a_rank_of_which_nothing_is_known_is_never_accused() -> None:
    evidence = hanging(without=(2,), error="RuntimeError")
    for known in (evidence.hosts, evidence.last_sign, evidence.calls["0"]):
        del known[2]
    finding = diagnose(evidence)[0]
    assert (finding.kind, finding.ranks) == (Kind.INSUFFICIENT, ())
    assert "nothing is known of rank 2" in finding.sentence


def test_a_host_that_is_cut_off() -> None:
    evidence = hanging()
    for rank, peers in {1: (2,), 2: (1, 3), 3: (2,)}.items():
        evidence.backed_off[rank] = dict.fromkeys(peers, evidence.last_sign[rank])
    finding = diagnose(evidence)[0]
    assert (finding.kind, finding.ranks, finding.hosts) == (Kind.CUT, (2,), ("h2",))

    for rank in evidence.ranks:  # timeouts of before do not count
        evidence.backed_off[rank] = dict.fromkeys(evidence.backed_off.get(rank, {}), 0)
    assert diagnose(evidence)[0].kind is Kind.STUCK


def test_a_process_that_is_stopped() -> None:
    evidence = hanging()
    evidence.silent = {0: 0.1, 1: 0.4, 2: 9.0, 3: 1.0}
    finding = diagnose(evidence, live=True)[0]
    assert (finding.kind, finding.ranks) == (Kind.FROZEN, (2,))


def test_who_hears_of_nobody_any_more_accuses_nobody() -> None:
    """It is rank 0's host that is cut off, and it is rank 0 that reads what the others tell."""
    evidence = hanging(without=(1, 2, 3))
    evidence.silent = {0: 0.1, 1: 9.0, 2: 9.5, 3: 8.0}
    finding = diagnose(evidence, live=True)[0]
    assert (finding.kind, finding.accuses) == (Kind.STUCK, False)
    assert "heard of ranks 1, 2 and 3 for 10 s" in finding.sentence and "that of rank 0" in finding.sentence
    evidence.exits[2] = Exit(None, 9)  # that is a fact
    assert any((each.kind, each.ranks) == (Kind.DEAD, (2,)) for each in diagnose(evidence, live=True))


def test_silence_comes_at_different_times_to_who_hears_of_nobody() -> None:
    """Digests come every 2 s, each rank's at its own moment."""
    evidence = hanging(without=(1, 2, 3))
    evidence.silent = {0: 0.1, 1: 6.3, 2: 5.1, 3: 4.4}
    assert not any(each.accuses for each in diagnose(evidence, live=True))
    evidence.silent = {0: 0.1, 1: 6.3, 2: 1.0, 3: 0.5}
    dead, hung = (each for each in diagnose(evidence, live=True) if each.kind in (Kind.DEAD, Kind.HUNG))
    assert (dead.ranks, hung.ranks) == ((1,), (2, 3))


def test_all_in_it_and_no_sign_of_why_names_nobody() -> None:
    finding = diagnose(hanging())[0]
    assert (finding.kind, finding.accuses, finding.confidence) == (Kind.STUCK, False, Confidence.LOW)


def test_a_failure_that_the_training_survived_is_history() -> None:
    evidence = hanging(error="RuntimeError")
    for rank in evidence.ranks:
        call(evidence, rank, 81)
    assert diagnose(evidence)[0].kind is Kind.NOTHING


def test_a_job_that_ended_with_work_in_flight_is_no_hang() -> None:
    assert diagnose(hanging(waited=0.5))[0].kind is Kind.NOTHING


@pytest.mark.parametrize(
    ("exits", "kind", "ranks"),
    [
        # Two ends are of the same host's clock, and rank 2's is the first.
        ({2: Exit(None, 9, 100), 3: Exit(1, None, 200)}, Kind.DEAD, (2,)),
        ({2: Exit(0, None, 100), 3: Exit(1, None, 200)}, Kind.DEAD, (2,)),
        # It was ended because another of its host had failed: so it had hung.
        ({2: Exit(None, 9, 300), 3: Exit(1, None, 200)}, Kind.HUNG, (2,)),
        ({2: Exit(None, 15, 300), 3: Exit(1, None, 200)}, Kind.HUNG, (2,)),
        # Another's clock says nothing.
        ({2: Exit(None, 9, 300), 0: Exit(1, None, 200)}, Kind.DEAD, (2,)),
    ],
)
def test_whose_end_came_first(exits: dict[int, Exit], kind: Kind, ranks: tuple[int, ...]) -> None:
    evidence = hanging(without=(2,), waited=30.0, error="RuntimeError", per_host=2)
    base = max(evidence.last_sign.values())
    evidence.last_sign.update({2: base, 3: base})
    evidence.exits = {rank: how._replace(time=base + (how.time or 0)) for rank, how in exits.items()}
    finding = diagnose(evidence)[0]
    assert (finding.kind, finding.ranks) == (kind, ranks)


def test_one_that_stood_still_and_was_killed_later_did_not_die_of_it() -> None:
    """Its launcher waits half a minute for a stopped rank to end by SIGTERM, and kills it then."""
    evidence = hanging()
    evidence.exits[2] = Exit(None, 9, evidence.last_sign[2] + SECOND)
    assert diagnose(evidence)[0].kind is Kind.DEAD
    evidence.exits[2] = Exit(None, 9, evidence.last_sign[2] + 30 * SECOND)
    assert all(finding.kind is not Kind.DEAD for finding in diagnose(evidence))


def test_a_rank_that_others_wait_for_and_that_was_silent_until_its_end_was_stopped() -> None:
    evidence = hanging(without=(2,), error="RuntimeError")
    evidence.last_sign[2] += SECOND
    evidence.exits[2] = Exit(None, 9, evidence.last_sign[2] + 21 * SECOND)
    finding = diagnose(evidence)[0]
    assert (finding.kind, finding.ranks, finding.confidence) == (Kind.FROZEN, (2,), Confidence.MEDIUM)
    assert finding.sentence.startswith(
        "Rank 2 stood still: nothing was heard of it for 21 s until its process ended"
    )
    evidence.last_sign[2] += 20 * SECOND  # it said something until its end
    assert diagnose(evidence)[0].kind is not Kind.FROZEN


def test_a_library_that_aborts_is_no_proof() -> None:
    """gloo ends a rank by SIGABRT that receives more than it posted, though another sent too much."""
    evidence = job(steps=30)
    evidence.exits[1] = Exit(None, 6, evidence.last_sign[1])
    assert all(finding.kind is not Kind.DEAD for finding in diagnose(evidence))
    evidence.exits[1] = Exit(None, 11, evidence.last_sign[1])
    finding = diagnose(evidence)[0]
    assert (finding.kind, finding.ranks) == (Kind.DEAD, (1,))
    assert finding.sentence == "Rank 1 was ended by signal 11 (SIGSEGV), as its launcher saw."
