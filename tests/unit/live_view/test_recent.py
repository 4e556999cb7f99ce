"""The live view's numbers and verdict are the summary's, of the last 60 steps; and what it keeps is bounded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_netmon.analysis.following import Following
from otel_netmon.analysis.recent import WINDOW, Recent, Step
from otel_netmon.analysis.summary import summarise
from otel_netmon.analysis.view import view_of
from otel_netmon.cli.live_view import Page, line, screen
from otel_netmon.records import Heartbeat, HostSample, InFlight, RankStep, Source
from tests.unit.analysis.synthetic import write_run


def late(step: int, rank: int) -> float:
    return 30.0 + step % 3 if rank == 2 and step >= 40 else (rank * 7 + step) % 5


def followed(folder: Path) -> Following:
    following = Following(folder)
    assert following.look() and not following.look()
    return following


@pytest.mark.parametrize("every", [1, 3])
def test_of_the_same_steps_it_says_what_the_summary_says(
    every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is no longer than the window; sampled steps or not."""
    write_run(tmp_path, monkeypatch, steps=WINDOW, late=late, every=every, traces=lambda _: True)
    recent = followed(tmp_path).recent
    summary, view = summarise(tmp_path), view_of(recent, {})
    assert summary.steps is not None and summary.waiting is not None
    assert (view.median, view.step, view.steps) == (summary.steps.median, WINDOW - 1, WINDOW)
    assert recent.diagnoses(recent.window()) == summary.diagnoses
    known = {one.rank: one for one in view.ranks}
    for each in summary.waiting.ranks:
        assert known[each.rank].caused == pytest.approx(each.caused, abs=1e-4)
        assert known[each.rank].waited == pytest.approx(each.share, abs=1e-4)
    assert view.ranks[0].rank == 2 and view.nics == summary.nics


def test_of_a_longer_run_the_last_steps_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(
        tmp_path,
        monkeypatch,
        steps=300,
        traces=lambda _: True,
        late=lambda step, rank: 30.0 * (rank == step // 100),
    )
    following = followed(tmp_path)
    view = view_of(following.recent, following.ages())
    assert (view.first, view.step, view.steps) == (240, 299, WINDOW)
    ((finding, *_),) = [each.findings for each in following.recent.diagnoses(following.recent.window())]
    assert finding.ranks == (2,) and finding.first_step is not None and finding.first_step >= 240
    assert [one.rank for one in view.ranks if one.caused > 0.1] == [2]
    assert len(view.ranks[0].late) == WINDOW


def test_a_run_that_grows_is_read_as_it_grows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "all", monkeypatch, steps=50, traces=lambda _: True, late=late)
    (tmp_path / "now").mkdir()
    following = Following(tmp_path / "now")
    assert not following.look() and view_of(following.recent, {}).step is None
    for place in range(4):
        for path in (tmp_path / "all").iterdir():
            data = path.read_bytes()
            (tmp_path / "now" / path.name).write_bytes(data[: len(data) * (place + 1) // 4])
        following.look()
    assert view_of(following.recent, {}) == view_of(followed(tmp_path / "all").recent, {})


def steps(run: str, numbers: range, rank: int = 0, begin: int = 0) -> Iterator[RankStep]:
    for number in numbers:
        start = begin + number * 10**9
        yield RankStep(
            "rank_step", run, rank=rank, world_size=1, step=number, start=start, end=start + 10**9,
            trace_id=f"{run}{number}", source=Source(f"{run} {rank}", "h", rank),
        )  # fmt: skip


def test_the_median_is_of_rank_0_where_it_is_there() -> None:
    (first,), (other,) = steps("run", range(1)), steps("run", range(1), rank=1)
    other = other._replace(end=other.start + 7 * 10**9)
    root = first._replace(name="train_step", end=first.start + 2 * 10**9)
    assert Step(0, {0: first, 1: other}, root).seconds() == [2.0]
    assert Step(0, {0: first, 1: other}).seconds() == [1.0]
    assert Step(0, {1: other}).seconds() == [7.0]


def test_the_newest_run_in_a_folder_is_the_one_that_is_shown() -> None:
    for order in ((0, 1), (1, 0)):
        recent = Recent()
        runs = [list(steps("old", range(90))), list(steps("new", range(20), begin=10**12))]
        for place in order:
            for record in runs[place]:
                recent.take(record)
        assert recent.run == "new" and view_of(recent, {}).step == 19
        assert {step.number for step in recent.window()} == set(range(20))


def test_what_is_kept_is_bounded() -> None:
    recent = Recent()
    source = Source("run 0", "h", 0)
    for record in steps("run", range(5000)):
        recent.take(record)
        for _ in range(3):
            recent.take(HostSample("system.network.io", 1, record.end, source=source))
            recent.take(HostSample("of.no.use", 1, record.end, source=source))
    assert len(recent._steps) <= 2 * WINDOW + 20
    assert sum(len(each.others) for each in recent.processes.values()) <= 3 * (2 * WINDOW + 40)


def test_a_call_that_stalls_is_shown_until_a_step_has_ended() -> None:
    recent = Recent()
    for record in steps("run", range(3)):
        recent.take(record)
    in_flight = InFlight("all_reduce", "0", 7, 4, 9.0)
    source = Source("run 0", "h", 0)
    recent.take(Heartbeat("run", 0, step=3, in_flight=(in_flight,), time=12 * 10**9, source=source))
    (stalled,) = view_of(recent, {"run 0": 2.5}).stalled
    assert (stalled.rank, stalled.operation, stalled.sequence, stalled.age) == (0, "all_reduce", 7, 11.5)
    assert "rank 0 has been in all_reduce for 11.5 s" in line(view_of(recent, {"run 0": 2.5}), (), 2.5, "x")
    for record in steps("run", range(3, 20)):
        recent.take(record)
    assert not view_of(recent, {}).stalled


def test_the_screen_is_never_larger_than_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, monkeypatch, ranks=30, steps=20, traces=lambda _: True, late=late)
    recent = followed(tmp_path).recent
    view, diagnoses = view_of(recent, {}), recent.diagnoses(recent.window())
    for size in ((200, 60), (80, 24), (60, 12), (20, 5), (1, 1)):
        page = Page(age=1.0)
        for key in ("", "down", "page down", "end", "up", "home", "?"):
            page.press(key)
            lines = screen(view, diagnoses, page, "folder", size).plain.split("\n")
            assert len(lines) <= size[1] and max(map(len, lines)) <= size[0]
    page = Page()
    shown = set()
    for _ in range(40):
        text = screen(view, diagnoses, page, "folder", (100, 15)).plain
        shown |= {int(row[:4]) for row in text.split("\n") if row[:4].strip().isdigit()}
        page.press("page down")
    assert shown == set(range(30))


def test_without_anything_it_says_so() -> None:
    assert "no step has ended" in screen(None, (), Page(), "folder", (80, 24)).plain
    assert line(None, (), None, "folder") == "no step has ended so far in folder"
