"""What the pictures rest on: who was late when, what the time went into, what moved between hosts."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_netmon import semconv
from otel_netmon.analysis.bandwidths import Bandwidths
from otel_netmon.analysis.details import LastCall
from otel_netmon.analysis.inside import PauseTable, choose, inside, shown
from otel_netmon.analysis.last_calls import last_calls
from otel_netmon.analysis.lateness import by_sums, in_step, late
from otel_netmon.analysis.links import links
from otel_netmon.analysis.overlap import Overlaps
from otel_netmon.analysis.summary import examine, summarise
from otel_netmon.analysis.waiting import Matcher, length
from otel_netmon.diagnosis.evidence import CallSeen, Evidence
from otel_netmon.diagnosis.finding import Finding, Kind
from otel_netmon.diagnosis.links import Link
from otel_netmon.diagnosis.steps import StepSample, StepTable
from otel_netmon.diagnosis.traffic import Traffic
from otel_netmon.records import Call, Collective, GroupUse, PeerTraffic, RankStep
from otel_netmon.report.page import page
from tests.unit.analysis.synthetic import SIZE, write_run

FROM, UNTIL = 10, 19


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Rank 2 is 40 ms late in some steps; all that each step says is there."""
    path = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as monkeypatch:
        write_run(
            path,
            monkeypatch,
            late=lambda step, rank: 40.0 * (rank == 2 and FROM <= step <= UNTIL) + rank * 0.01,
            traces=lambda _rank: True,
        )
    yield path


def test_without_single_collectives_lateness_is_made_of_sums(folder: Path, tmp_path: Path) -> None:
    for file in folder.glob("*.jsonl"):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        spans = (
            scope["spans"]
            for line in lines
            for about in line.get("resourceSpans", ())
            for scope in about["scopeSpans"]
        )
        for some in spans:
            some[:] = [span for span in some if span["name"] in (semconv.SPAN_RANK_STEP, semconv.SPAN_TRAIN_STEP)]
            for span in some:
                span["attributes"] = [
                    each for each in span["attributes"] if each["key"] != semconv.STEP_COLLECTIVES
                ]
        (tmp_path / file.name).write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    summary, details = examine(tmp_path)
    assert (summary.waiting is None or not summary.waiting.matched) and details.by_sums == 29
    assert details.steps == tuple(range(1, 30))
    for rank, row in details.lateness.items():
        for step, seconds in zip(details.steps, row, strict=True):
            expected = 0.04 if rank == 2 and FROM <= step <= UNTIL else 0.0
            assert seconds == pytest.approx(expected, abs=1e-4), (rank, step)
    found = page(summary, details, "run")
    assert "In 29 steps of 29 single collectives are not known" in found and 'id="heat"' in found


def test_waiting_in_collectives_in_flight_together_counts_once() -> None:
    matcher = Matcher()
    for sequence, start in ((1, 0.0), (2, 0.1), (3, 5.0)):  # the first two are in flight together for rank 0
        for rank, seconds in ((0, 1.0), (1, 0.2), (2, 0.7)):
            matcher.add((1, "0", "all_reduce"), sequence, 3, rank, seconds, start=start)
    waiting = matcher.measure({1: 1}, {1: 10.0}, {})
    waited: dict[int, Any] = {each.rank: (each.waited, each.share, each.caused) for each in waiting.ranks}
    assert waited[0] == (pytest.approx(0.9 + 0.8), pytest.approx(0.17), 0.0)
    assert waited[2] == (pytest.approx(0.6 + 0.5), pytest.approx(0.11), 0.0)
    assert waited[1] == (0.0, 0.0, pytest.approx((1.7 + 1.1) / 2))
    assert [each.waited_for for each in waiting.ranks] == [0, 3, 0]


def test_sums_are_compared_among_ranks_that_have_the_same_to_do() -> None:
    table = StepTable()
    for rank, (seconds, calls) in enumerate([(0.5, 3), (0.5, 3), (0.46, 3), (0.2, 9), (0.2, 9), (None, 9)]):
        table.add(rank, StepSample(0, 10**9, seconds, calls=calls))
    assert by_sums(table) == {2: pytest.approx(0.04)}


def test_the_summary_is_the_same_with_details_and_without(folder: Path) -> None:
    assert examine(folder)[0] == summarise(folder)


def test_details_say_who_was_late_and_what_it_cost(folder: Path) -> None:
    summary, details = examine(folder)
    assert details.steps == tuple(range(1, 30))
    for rank, row in details.lateness.items():
        for step, seconds in zip(details.steps, row, strict=True):
            expected = 0.04 if rank == 2 and FROM <= step <= UNTIL else 0.0
            assert seconds == pytest.approx(expected, abs=1e-4), (rank, step)
    assert [each.steps for each in details.times] == [29] * 4
    for each in details.times:
        assert sum(each[3:10]) == pytest.approx(each.total) == pytest.approx(2.9)
        assert each.waiting == pytest.approx(0.0 if each.rank == 2 else 0.4, abs=2e-3)
        assert each.transfer == pytest.approx(0.29, abs=2e-3)
        assert each.unsplit == each.unknown == 0
    assert summary.waiting is not None
    caused = {each.rank: each.caused for each in summary.waiting.ranks}
    assert sum(details.lateness[2]) == pytest.approx(caused[2], rel=0.02)
    (found,) = details.bandwidths
    assert (found.operation, found.size, found.times) == ("all_reduce", SIZE, 29)
    assert found.middle == pytest.approx(1.5 * SIZE / 0.01, rel=0.01)
    assert found.called < found.middle


def test_inside_a_step_rows_meet_where_they_left_the_collective(folder: Path) -> None:
    _, details = examine(folder)
    assert len(details.inside) == 2
    longest = next(each for each in details.inside if FROM <= each.step <= UNTIL)
    assert longest.aligned == f"all_reduce number {longest.step + 5}"
    ends = {round(row.collectives[0].start + row.collectives[0].seconds, 6) for row in longest.ranks}
    assert len(ends) == 1
    assert [row.waited > 0.03 for row in longest.ranks] == [True, True, False, True]


def test_several_runs_have_the_pictures_of_the_largest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, monkeypatch, steps=5, run="small")
    write_run(tmp_path, monkeypatch, steps=9, run="large")
    summary, details = examine(tmp_path)
    assert details.run_id == "large"
    assert details.steps == tuple(range(1, 9))
    assert len(summary.diagnoses) == 2


def test_waits_that_overlap_count_once() -> None:
    assert length([(10.0, 2.0)]) == 2.0
    assert length([(10.0, 2.0), (11.0, 2.0)]) == pytest.approx(3.0)
    assert length([(10.0, 2.0), (20.0, 2.0)]) == pytest.approx(4.0)
    assert length([(math.nan, 2.0), (math.nan, 2.0)]) == 4.0  # on a device one follows the other


def test_late_is_who_waited_less_than_the_median_of_the_others() -> None:
    assert late({0: 0.0, 1: 5.0}) == {0: 5.0}
    assert late({0: 0.0, 1: 5.0, 2: 7.0})[0] == 6.0
    assert late({0: 1.0, 1: 5.0, 2: 5.0, 3: 6.0}) == {0: 4.0}
    assert late({0: 3.0}) == late({}) == {}


def test_a_rank_in_two_groups_is_late_where_that_is_most() -> None:
    matcher = Matcher()
    for group, ranks in (("a", (0, 1)), ("b", (0, 2))):
        for rank in ranks:
            seconds = {"a": 0.2, "b": 0.5}[group] if rank else 0.1
            matcher.add((1, group, "all_reduce"), 1, 2, rank, seconds, start=float(rank))
    waited, lateness = in_step(matcher, matcher.by_trace()[1], {})
    assert lateness == pytest.approx({0: 0.4})
    assert waited == pytest.approx({0: 0.0, 1: 0.1, 2: 0.4})


def step(calls: tuple[Call, ...], **known: float | None) -> RankStep:
    return RankStep(
        semconv.SPAN_RANK_STEP,
        run_id="r",
        step=1,
        collective_count=len(calls),
        calls=calls,
        groups=(GroupUse("0", len(calls), 0, None, None, None),),
        **known,  # type: ignore[arg-type]
    )


def overlap_of(one: RankStep) -> tuple[float, ...] | None:
    overlaps = Overlaps()
    overlaps.add(one, 0)
    found, unknown = overlaps.of("r")
    assert (unknown == 1) == (not found)
    return tuple(found[0][2:]) if found else None


FIRST, SECOND = Call("all_reduce", "0", 10_000, 30_000), Call("all_reduce", "0", 30_000, 20_000)


def test_what_was_in_flight_until_all_was_issued_is_overlapped() -> None:
    both = step((FIRST, SECOND), collective_time=0.04, issue_time=0.03, wait_time=0.005)
    assert overlap_of(both) == pytest.approx((0.04, 0.02, 0.005, 0.015))
    # The first blocked its caller: all of its time is taken off what was in flight before the second.
    blocked = step((Call("all_reduce", "0", 10_000, 20_000), SECOND), collective_time=0.04, issue_time=0.01)
    assert overlap_of(blocked) == pytest.approx((0.04, 0.0, 0.0, 0.04))


def test_calls_that_block_are_exposed() -> None:
    assert overlap_of(step((FIRST,), collective_time=0.03)) == pytest.approx((0.03, 0.0, 0.03, 0.0))


@pytest.mark.parametrize(
    "one",
    [
        step((FIRST,), collective_time=None, issue_time=0.01),
        step((FIRST._replace(duration=None),), collective_time=0.03, issue_time=0.01),
        step((FIRST,), collective_time=0.03, issue_time=0.01)._replace(collective_count=2),
    ],
)
def test_overlap_that_is_not_known_is_not_zero(one: RankStep) -> None:
    assert overlap_of(one) is None


def test_the_first_step_and_one_that_did_not_end_say_nothing_of_overlap() -> None:
    overlaps = Overlaps()
    one = step((FIRST,), collective_time=0.03)
    for other in (one._replace(step=0), one._replace(incomplete=True), one._replace(name=semconv.SPAN_TRAIN_STEP)):
        overlaps.add(other, 0)
    assert overlaps.of("r") == ((), 0)


def reading(peer: int, host: str | None, at: int, rtt: float | None, **more: int) -> PeerTraffic:
    values = dict.fromkeys(PeerTraffic._fields[:18], 0) | {"peer": peer, "host": host, "rtt": rtt, "interval": 1.0}
    return PeerTraffic(**{**values, "busy_time": 0.5, "at": at, "shortest_rtt": rtt, **more})  # type: ignore[arg-type]


def test_links_are_of_hosts_and_sum_up_their_ranks() -> None:
    both = Traffic([reading(2, "b", 1, 0.001, bytes_sent=100, segments_sent=10, retransmits=1)])
    more = Traffic([reading(2, None, 1, 0.003, bytes_sent=300), reading(9, None, 2, 0.1)])
    found = links({0: both, 1: more}, {0: "a", 1: "a", 2: "b"})
    (link,) = found
    assert (link.sender, link.receiver, link.sent, link.segments, link.retransmits) == ("a", "b", 400, 10, 1)
    assert link.rtt == pytest.approx(0.002)
    assert (link.shortest, link.rate) == (0.001, 400.0)


def test_bandwidths_of_many_sizes_are_few() -> None:
    matcher, found = Matcher(), Bandwidths()
    for number in range(300):
        for rank in (0, 1):
            one = Collective("all_reduce", size=1000 + number, busbw=1e6)
            matcher.add((1, "0", "all_reduce"), number, 2, rank, 0.1, of=one)
    for part in matcher.parts((1, "0", "all_reduce"), {}):
        assert part is not None
        found.add(part)
    measured = found.measure()
    assert sum(each.times for each in measured) == 300
    assert len(measured) < 5


def test_the_steps_to_show_are_a_calm_one_and_one_of_the_finding() -> None:
    steps, times = list(range(1, 31)), [1.0 + number / 100 for number in range(30)]
    lateness = {0: [0.0] * 30, 1: [0.5 * (number >= 20) for number in range(30)]}
    slow = Finding(Kind.SLOW_RANK, "", ranks=(1,), first_step=21, last_step=30)
    (calm, why), (bad, _) = choose(steps, times, lateness, range(30), slow)
    assert calm == 10 and why == "the median of the steps before 21" and bad >= 20
    seldom = {1: [5.0 * (number == 25) for number in range(30)]}
    assert choose(steps, times, seldom, range(30), slow)[1][0] == 25
    assert choose(steps, times, lateness, range(30), None) == [
        (15, "the step of median length"),
        (29, "the longest step"),
    ]
    assert choose(steps, times, lateness, [], slow) == []
    throughout = Finding(Kind.SLOW_RANK, "", ranks=(1,), first_step=1, last_step=30)
    assert choose(steps, times, lateness, range(30), throughout)[0][0] < 20


def test_of_many_ranks_the_worst_and_some_others_are_shown() -> None:
    assert shown(range(16), {}) == tuple(range(16))
    some = shown(range(1000), {417: 5.0, 3: 1.0})
    assert len(some) == 16 and {3, 417} <= set(some) and max(some) > 800


def test_pauses_are_found_again() -> None:
    table = PauseTable()
    table.add(5, 3, "gc", 2000, 1000)
    table.add(5, 3, "data", 0, 500)
    table.add(5, 3, "other", 0, 500)
    table.add(6, 3, "gc", 0, 700)
    of = table.of([5])
    assert of(5, 3) == (("data", 0.0, 0.0005), ("gc", 0.002, 0.001))
    assert of(6, 3) == of(5, 4) == ()


def test_of_too_many_collectives_the_shortest_are_left_out_and_counted() -> None:
    matcher, table = Matcher(), StepTable()
    for rank in (0, 1):
        table.add(rank, StepSample(0, 10**9))
        for number in range(600):
            matcher.add((1, "0", "all_reduce"), number, 2, rank, 1e-6 * (number + 1), start=number * 1e-3)
    parts = [part for part in matcher.parts((1, "0", "all_reduce"), {}) if part is not None]
    found = inside(1, "", table, parts, ranks=(0, 1), pauses=lambda _rank: ())
    shown_numbers = [one.sequence for one in found.ranks[0].collectives]
    assert shown_numbers == list(range(100, 600))
    assert found.left_out == 200


def test_a_damaged_reading_has_no_rate() -> None:
    of = Traffic([reading(2, "b", 1, 0.001, bytes_sent=10**9)._replace(busy_time=-1.0)])
    link = Link()
    link.add(of.peers[2], of.peers[2].between(0, 2))
    assert link.logs == []
    (found,) = links({0: of}, {0: "a"})
    assert found.rate is None


def test_the_last_calls_are_told_where_something_did_not_end() -> None:
    ended, hung = CallSeen("all_reduce", 8, 0, 10**9), CallSeen("all_reduce", 8, 10**9, None)
    evidence = Evidence(
        calls={"0": {0: {4: ended, 5: hung, 6: hung}, 1: {3: ended, 4: ended}}, "fine": {0: {1: ended}}}
    )
    evidence.last_sign[0] = 11 * 10**9
    assert last_calls(evidence) == (
        LastCall("0", 1, 4, "all_reduce", None, None, is_over=True),
        LastCall("0", 0, 5, "all_reduce", 10.0, None, is_over=False),
    )
    assert last_calls(Evidence(calls={"0": {0: {4: ended}}})) == ()
