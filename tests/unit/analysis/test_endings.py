"""What launchers say of the ends of ranks, joined to what the ranks said themselves: by host and process id."""

from __future__ import annotations

from otel_netmon.analysis.evidence import collect
from otel_netmon.diagnosis.evidence import Exit
from otel_netmon.endings import LastCall, LastCalls, RankExit
from otel_netmon.records import Collective, GroupUse, RankStep, Source
from otel_netmon.store.reader import Known

AT = 10**18
MS = 10**6
LAUNCHER = Source("launcher", "h", pid=1)
RANKS = [Source(f"rank {rank}", "h", rank, rank, 3, pid=10 + rank) for rank in range(3)]


def step(rank: int, run: str = "r") -> RankStep:
    return RankStep("rank_step", run, rank=rank, world_size=3, step=0, start=AT, end=AT + MS, source=RANKS[rank])


def test_ends_and_last_calls_go_to_the_rank_of_that_process() -> None:
    exported = Collective(
        "all_reduce",
        "0",
        sequence=4,
        size=8,
        rank=1,
        start=AT,
        end=AT + 5 * MS,
        parent_id="a" * 16,
        source=RANKS[1],
    )
    calls = (
        LastCall("all_reduce", "0", 4, 8, 20_000, None, None),
        LastCall("all_reduce", "0", 5, 8, 10_000, 2_000, None),
        LastCall("send", "0", None, 8, 10_000, 2_000, None),
        LastCall("all_reduce", "0", 6, 4, 500, None, None),
    )
    last = LastCalls(11, "r", None, step=1, step_age=0.01, calls=calls, time=AT + 20 * MS, source=LAUNCHER)
    records: list[Known] = [
        RankExit(11, signal=9, time=AT + 21 * MS, source=LAUNCHER),
        last,
        *(step(rank) for rank in range(3)),
        exported,
        RankExit(12, 2, code=3, time=AT + 22 * MS, source=LAUNCHER),
        RankExit(12, 0, code=5, source=LAUNCHER._replace(host="another")),
    ]
    evidence = collect(records)["r"]
    assert evidence.exits == {1: Exit(None, 9, AT + 21 * MS), 2: Exit(3, None, AT + 22 * MS)}
    seen = evidence.calls["0"][1]
    assert sorted(seen) == [4, 5, 6]
    assert seen[4].end == AT + 5 * MS, "what was exported says more"
    assert (seen[5].start, seen[5].end) == (AT + 10 * MS, AT + 12 * MS)
    assert (seen[6].end, seen[6].size) == (None, 4)
    assert evidence.last_sign[1] == AT + 20 * MS and evidence.open_since[1] == AT + 10 * MS


def test_a_rank_that_wrote_nothing_is_known_by_what_it_left() -> None:
    calls = (LastCall("barrier", "0", 1, 0, 500, None, None),)
    last = LastCalls(12, "r", 2, 2, 3, calls=calls, time=AT, source=LAUNCHER)
    evidence = collect([step(0), step(1), last, RankExit(12, signal=11, source=LAUNCHER)])["r"]
    assert evidence.hosts == {0: "h", 1: "h", 2: "h"} and evidence.exits == {2: Exit(None, 11, 0)}
    assert evidence.world_size == 3 and evidence.head("0", 2) == 1


def test_what_a_step_says_ended_is_not_open() -> None:
    """Its span was not sampled, and its end came after the last round that wrote to the box."""
    done = step(0)._replace(groups=(GroupUse("0", 2, 8, None, 7, 3),))
    calls = tuple(LastCall("all_reduce", "0", number, 8, 9 - number, None, None) for number in (6, 7, 8))
    evidence = collect([done, LastCalls(10, "r", 0, calls=calls, time=AT + 2 * MS, source=LAUNCHER)])["r"]
    assert sorted(evidence.calls["0"][0]) == [8]


def test_an_end_of_which_nothing_is_known_is_absent() -> None:
    evidence = collect([step(0), RankExit(10, 0, source=LAUNCHER)])["r"]
    assert evidence.exits == {0: Exit(None, None, 0)}
