"""A file that grows, read piece by piece; and lines of which only the steps are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_netmon.records import Collective, RankStep
from otel_netmon.store import appended
from otel_netmon.store.appended import Appended
from otel_netmon.store.problems import Problems
from otel_netmon.store.reader import records
from otel_netmon.store.thinned import thinned
from otel_netmon.store.values import parse
from tests.unit.analysis.synthetic import write_run


@given(st.lists(st.text("ab\n{", max_size=9).map(str.encode), max_size=20), st.integers(1, 9))
def test_whatever_the_pieces_each_line_comes_once_and_where_it_ends(parts: list[bytes], most: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path, problems, found = Path(folder) / "x", Problems(), []
        file, data = Appended(path), b"".join(parts)
        path.touch()
        for part in parts:
            with path.open("ab") as opened:
                opened.write(part)
            while lines := file.lines(problems, most):
                found += lines
        while lines := file.lines(problems, most, is_last=True):
            found += lines
        expected, end = [], 0
        for line in data.splitlines(keepends=True):
            end += len(line)
            expected += [(line, end)] if line.strip() else []
        assert found == expected and problems == Problems()


def test_a_line_that_is_too_long_is_passed_over_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appended, "MAX_LINE", 64)
    (tmp_path / "x").write_bytes(b"a\n" + b"y" * 1000 + b"\n\nb\n")
    file, problems, found = Appended(tmp_path / "x"), Problems(), []
    while lines := file.lines(problems, 16):
        found += [line for line, _ in lines]
    assert (found, problems.corrupt) == ([b"a\n", b"b\n"], 1)


def test_from_the_middle_it_begins_with_the_next_line(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"first\nsecond\nthird\n")
    file = Appended(tmp_path / "x", 8)
    file.next_line()
    assert [line for line, _ in file.lines(Problems())] == [b"third\n"]


def test_what_is_no_file_is_counted_once(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("elsewhere")
    problems = Problems()
    for name in ("none", "link"):
        file = Appended(tmp_path / name)
        assert file.lines(problems) == file.lines(problems) == []
    assert problems.files == 2


def test_of_a_thinned_line_the_steps_are_as_of_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, monkeypatch, every=2, traces=lambda _: True)
    problems, passed_over = Problems(), 0
    for path in tmp_path.iterdir():
        for line in path.read_bytes().splitlines(keepends=True):
            whole = records(parse(line, problems), problems)
            thin = records(thinned(line, problems), problems)
            # the root comes after the steps then: each kind keeps its order
            steps = [one for one in whole if not isinstance(one, Collective)]
            assert sorted(thin, key=str) == sorted(steps, key=str)
            passed_over += len(whole) - len(thin)
    assert passed_over == 4 * 15 and problems == Problems()


@pytest.mark.parametrize("change", ["failed", "cut", "other"])
def test_lines_that_are_not_as_usual_are_read_as_a_whole(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, monkeypatch, ranks=1)
    line = next(tmp_path.glob("traces-*")).read_bytes().splitlines(keepends=True)[0]
    if change == "failed":
        line = line.replace(
            b'"attributes":[{"key":"torch', b'"attributes":[{"key":"error.type","value":{}},{"key":"torch', 1
        )
    elif change == "cut":
        line = line[:-30]
    else:
        line = (json.dumps(json.loads(line), sort_keys=True) + "\n").encode()
    whole, thin = Problems(), Problems()
    assert thinned(line, thin) == parse(line, whole) and thin == whole


def test_a_text_that_looks_like_a_step_is_none(tmp_path: Path) -> None:
    text = json.dumps('{"traceId":"name":"rank_step"')
    line = (
        '{"resourceSpans":[{"resource":{"attributes":[]},"scopeSpans":[{"spans":[{"traceId":"' + "0" * 31 + '1",'
        '"spanId":"0000000000000001","name":"all_reduce","startTimeUnixNano":"1","endTimeUnixNano":"2",'
        '"attributes":[{"key":"x","value":{"stringValue":' + text + "}}]}]}]}]}\n"
    ).encode()
    assert not any(isinstance(each, RankStep) for each in records(thinned(line, Problems()), Problems()))
