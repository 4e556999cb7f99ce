"""Rows of hosts whose clocks differ, calls that overlap, and how much is held at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from otel_netmon.analysis.clocks import Clocks
from otel_netmon.analysis.timeline import Timeline
from otel_netmon.records import Collective, RankStep, Source
from otel_netmon.report.perfetto import TraceFile
from otel_netmon.report.timeline import Drawing
from tests.unit.export.trace import Trace, load

pytest.importorskip("perfetto", reason="pip install perfetto, or otel-netmon[perfetto]")

MS = 1_000_000
STEP = 100 * MS
AHEAD = {0: 0, 1: 3_600_000 * MS, 2: -250 * MS}
"""By rank, each on a host of its own: what its clock is ahead of that of rank 0."""
DRIFT = 50e-6


def clock(rank: int, time: int) -> int:
    """What the host of a rank reads at a moment."""
    return 10**18 + time + AHEAD[rank] + int(rank * DRIFT * time)


def source(rank: int) -> Source:
    return Source(f"i{rank}", f"h{rank}", rank, 0, 3)


def a_step(
    number: int, calls: Iterable[tuple[int, int]] = ((20, 60), (65, 80))
) -> Iterator[Collective | RankStep]:
    """Of all ranks; ``calls`` in ms from the step's start. Rank r enters r ms late."""
    begin, trace = number * STEP, f"{number:032x}"
    for rank in range(3):
        for place, (start, end) in enumerate(calls):
            yield Collective(
                "all_reduce", "0", "gloo", 3, rank, rank, sequence=2 * number + place,
                start=clock(rank, begin + (start + rank) * MS), end=clock(rank, begin + end * MS),
                trace_id=trace, source=source(rank),
            )  # fmt: skip
        yield RankStep(
            "rank_step", "run", rank=rank, world_size=3, step=number,
            start=clock(rank, begin), end=clock(rank, begin + STEP), trace_id=trace, source=source(rank),
        )  # fmt: skip


def draw(records: Iterable[Collective | RankStep], folder: Path) -> tuple[Trace, Clocks]:
    timeline = Timeline()
    for record in records:
        timeline.take(record)
    with (folder / "x").open("wb") as file:
        drawing = Drawing(TraceFile(file))
        drawing.draw(timeline.rest())
        drawing.finish()
    trace = load(folder / "x")
    assert not trace.wrong
    return trace, drawing.clocks


def test_rows_of_hosts_with_clocks_hours_apart_lie_over_one_another(tmp_path: Path) -> None:
    steps = 400
    trace, clocks = draw((one for number in range(steps) for one in a_step(number)), tmp_path)
    for number in (0, 1, steps // 2, steps - 1):
        starts = [each.start for each in trace.slices if each.name == f"step {number}"]
        assert len(starts) == 3 and max(starts) - min(starts) < 0.2 * MS
    for waiting, entry in trace.flows():
        assert waiting.name.startswith("waiting") and abs((waiting.end or 0) - entry.start) < 0.2 * MS
    assert clocks.errors().keys() == {"h1", "h2"} and max(clocks.errors().values()) < 1e-4


def test_a_clock_that_is_set_while_it_runs_turns_no_row_around(tmp_path: Path) -> None:
    def jumping() -> Iterator[Collective | RankStep]:
        for number in range(40):
            by = 0 if number < 20 else 5_000 * MS
            for each in a_step(number):
                moved = by if each.rank == 1 else 0
                yield each._replace(start=each.start + moved, end=each.end + moved)

    trace, _ = draw(jumping(), tmp_path)  # that all slices nest is looked at there
    row = [each.start for each in trace.named("step") if trace.path(each.track) == "host h1/rank 1"]
    assert row == sorted(row)


def test_only_calls_that_overlap_or_reach_beyond_their_step_are_on_lanes(tmp_path: Path) -> None:
    calls = ((20, 60), (40, 70), (62, 80), (95, 120))
    trace, _ = draw(a_step(1, calls), tmp_path)
    of_rank_0 = [each for each in trace.named("all_reduce") if "rank 0" in trace.path(each.track)]
    lanes = [trace.path(each.track).count("/") for each in of_rank_0]
    begin = min(each.start for each in trace.named("step 1"))
    found = sorted(
        ((each.start - begin) // MS, lane, each.depth) for each, lane in zip(of_rank_0, lanes, strict=True)
    )
    assert found == [(20, 1, 1), (40, 2, 0), (62, 1, 1), (95, 2, 0)]


def test_a_step_is_drawn_as_soon_as_it_is_whole_and_a_rank_that_does_not_come_holds_up_few(tmp_path: Path) -> None:
    timeline = Timeline()
    for number in range(200):
        for record in a_step(number):
            if record.rank != 2 or number < 100:
                timeline.take(record)
        drawn = [step.number for step in timeline.whole(number)]
        if number < 100:
            assert drawn == ([number - 2] if number >= 2 else [])
    assert len(list(timeline.rest())) <= 66


def test_a_call_that_failed_or_did_not_end_is_drawn_without_a_transfer(tmp_path: Path) -> None:
    records = [
        each._replace(error="TimeoutError") if isinstance(each, Collective) and each.rank == 1 else each
        for each in a_step(3)
    ]
    trace, _ = draw(records, tmp_path)
    assert not trace.named("transfer") and not trace.flows()
    assert {each.about.get("what") for each in trace.named("all_reduce")} == {None, "failed: TimeoutError"}


def test_what_a_device_did_is_no_transfer_of_the_host(tmp_path: Path) -> None:
    records = [
        each._replace(device_duration=0.001, clock="device") if isinstance(each, Collective) else each
        for each in a_step(3)
    ]
    trace, _ = draw(records, tmp_path)
    assert not trace.named("transfer") and not trace.named("waiting") and not trace.flows()
    assert {each.about["device_ms"] for each in trace.named("all_reduce")} == {1.0}
