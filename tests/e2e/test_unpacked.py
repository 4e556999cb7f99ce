"""A real job's telemetry with its spans of collectives taken away: what its steps have packed answers the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_netmon import semconv
from otel_netmon.analysis.questions import question
from otel_netmon.analysis.summary import summarise
from tests.e2e.test_clickhouse import job
from tests.unit.store.test_questions import answers

Change = Callable[[int, dict[str, Any]], None]
"""Takes the number of a step and its attributes by name."""
MICROSECONDS = 2e-6
"""That are lost where times are packed: start and end are rounded."""
QUERIES = [question(name) for name in ("ops", "late", "exposed")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With all spans."""
    return job(tmp_path_factory.mktemp("run"))


def unchanged(_step: int, _said: dict[str, Any]) -> None:
    """As they were packed."""


def without_spans(folder: Path, target: Path, change: Change = unchanged) -> Path:
    """A copy in which steps say that there were no spans of their collectives, which there are not."""
    target.mkdir()
    for path in folder.glob("*.jsonl"):
        messages = [json.loads(line) for line in path.read_text().splitlines()]
        for message in messages:
            for group in message.get("resourceSpans", ()):
                for scope in group["scopeSpans"]:
                    scope["spans"] = [each for each in scope["spans"] if each["name"] in semconv.SPAN_PERIODS]
                    for span in scope["spans"]:
                        _unsample(span, change)
        (target / path.name).write_text("".join(f"{json.dumps(message)}\n" for message in messages))
    return target


def _unsample(span: dict[str, Any], change: Change) -> None:
    said = {pair["key"]: pair["value"] for pair in span["attributes"]}
    if str(semconv.STEP_SAMPLED) in said:
        said[str(semconv.STEP_SAMPLED)] = {"boolValue": False}
    change(int(said.get(str(semconv.STEP), {"intValue": -1})["intValue"]), said)
    span["attributes"] = [{"key": key, "value": value} for key, value in said.items()]


def as_before(_step: int, said: dict[str, Any]) -> None:
    """Calls as older versions packed them."""
    if packed := said.get(str(semconv.STEP_COLLECTIVES)):
        found, at = json.loads(packed["stringValue"]), 0
        found["start"] = [at := at + each for each in found.pop("after")]
        packed["stringValue"] = json.dumps(found)


@pytest.mark.parametrize("change", [unchanged, as_before])
def test_who_was_late_and_how_long_operations_took(folder: Path, tmp_path: Path, change: Change) -> None:
    packed = without_spans(folder, tmp_path / "packed", change)
    (ops, late, exposed), (packed_ops, packed_late, packed_exposed) = (
        answers(where, *QUERIES)[1] for where in (folder, packed)
    )
    by_name = {each["operation"]: each for each in packed_ops if each["operation"] is not None}
    assert len(by_name) == len(ops) > 1
    for each in ops:
        other = by_name[each["operation"]]
        for same in "group_name", "ranks_of_group", "ranks", "calls", "failed", "unfinished", "only_sums":
            assert each[same] == other[same], same
        for near in "p50_s", "p99_s":
            assert each[near] == pytest.approx(other[near], abs=MICROSECONDS)
    assert sum(each["bytes"] or 0 for each in packed_ops) == sum(each["bytes"] for each in ops)
    assert [each["rank"] for each in late] == [each["rank"] for each in packed_late]
    for each, other in zip(late, packed_late, strict=True):
        assert each["caused_s"] == pytest.approx(other["caused_s"], abs=MICROSECONDS * each["last_in"])
        assert (each["last_in"], each["in_steps"]) == (other["last_in"], other["in_steps"])
    for each, other in zip(exposed, packed_exposed, strict=True):
        assert {**each, "blocking_s": 0} == {**other, "blocking_s": 0} and other["blocking_s"] is None


def twice_at_once(_step: int, said: dict[str, Any]) -> None:
    """Each call twice, the second time together with the last."""
    packed, groups = (said.get(str(name)) for name in (semconv.STEP_COLLECTIVES, semconv.STEP_GROUPS))
    if packed is None or groups is None:
        return
    found = json.loads(packed["stringValue"])
    found["after"] += [0] * len(found["after"])
    for column in "kind", "duration":
        found[column] *= 2
    packed["stringValue"] = json.dumps(found)
    used = [
        [name, *(2 * each for each in sums), ranks] for name, *sums, ranks in json.loads(groups["stringValue"])
    ]
    groups["stringValue"] = json.dumps(used)


@pytest.mark.parametrize("change", [unchanged, twice_at_once])
def test_it_is_what_the_summary_finds(folder: Path, tmp_path: Path, change: Change) -> None:
    packed = without_spans(folder, tmp_path / "packed", change)
    _, (ops, late, _) = answers(packed, *QUERIES)
    summary = summarise(packed)
    assert summary.waiting is not None and summary.waiting.matched > 25
    last_in = {each.rank: each.waited_for for each in summary.waiting.ranks if each.waited_for}
    assert last_in == {each["rank"]: each["last_in"] for each in late}
    caused = {each.rank: each.caused for each in summary.waiting.ranks if each.waited_for}
    assert caused == pytest.approx({each["rank"]: each["caused_s"] for each in late}, abs=50 * MICROSECONDS)
    calls = {each.operation: (each.calls, each.p50, each.p99) for each in summary.operations}
    named = [each for each in ops if each["operation"] is not None]
    assert calls == {each["operation"]: (each["calls"], each["p50_s"], each["p99_s"]) for each in named}


def test_waiting_in_collectives_in_flight_together_counts_once(folder: Path, tmp_path: Path) -> None:
    once, twice = (
        answers(without_spans(folder, tmp_path / change.__name__, change), QUERIES[1])[1][0]
        for change in (unchanged, twice_at_once)
    )
    assert sum(each["last_in"] for each in once) * 2 == sum(each["last_in"] for each in twice)
    sums = [sum(each["caused_s"] for each in rows) for rows in (once, twice)]
    assert sums[0] <= sums[1] < 1.5 * sums[0]


def test_calls_that_only_sums_tell_of_are_counted(folder: Path, tmp_path: Path) -> None:
    def change(step: int, said: dict[str, Any]) -> None:
        if step % 5:
            said.pop(str(semconv.STEP_COLLECTIVES), None)

    some = without_spans(folder, tmp_path / "some", change)
    (ops,), (all_ops,) = (answers(where, QUERIES[0])[1] for where in (some, folder))
    for column in "calls", "bytes":
        assert sum(each[column] or 0 for each in ops) == sum(each[column] for each in all_ops)
    (unknown,) = [each for each in ops if each["operation"] is None]
    assert 0 < unknown["only_sums"] == unknown["calls"] == sum(each["only_sums"] for each in ops)
    assert unknown["p50_s"] is None and unknown["group_name"] == "0"


def test_a_rank_that_has_spans_is_not_counted_twice(folder: Path, tmp_path: Path) -> None:
    """What steps say of theirs is not needed there, whatever they say."""
    copy = without_spans(folder, tmp_path / "copy")
    for path in folder.glob("traces-*rank0*.jsonl"):
        (copy / path.name).write_text(path.read_text().replace('"boolValue":true', '"boolValue":false'))
    (ops, late), (copied_ops, copied_late) = (answers(where, *QUERIES[:2])[1] for where in (folder, copy))
    assert sum(each["calls"] for each in ops) == sum(each["calls"] for each in copied_ops)
    assert [each["last_in"] for each in late] == [each["last_in"] for each in copied_late]
