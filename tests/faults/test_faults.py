"""A few of the cases: who is blamed for a fault, and nobody without one. ``make faults`` has all of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from otel_netmon import semconv
from otel_netmon.diagnosis.finding import Cause, Direction, Finding, Kind

from . import lab
from .catalogue import CASES
from .evaluate import evaluate
from .grading import EXPECTED, Grade, Truth
from .record import record
from .replay import looks, told

STEPS, FROM = 36, 10
"""Fewer than in ``make faults``."""


@pytest.fixture(scope="module", autouse=True)
def _torch() -> None:
    pytest.importorskip("torch")


@pytest.fixture
def hosts() -> None:
    reason = lab.missing()
    if reason is not None:
        pytest.skip(reason)


@pytest.mark.usefixtures("hosts")
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("name", "culprit"), [("straggler", 2), ("rate_up", 1), ("kill", 0), ("none", 0)])
def test_a_training(name: str, culprit: int, tmp_path: Path) -> None:
    case = CASES[name]
    record(replace(case, job={**case.job, "steps": STEPS}, from_step=FROM), culprit, tmp_path / "run")
    found = evaluate(tmp_path / "run")
    assert not found.also_wrong
    assert (found.grade is Grade.RIGHT) if found.is_clean else found.grade.is_found, found
    if not found.is_clean:
        assert found.named_after is not None and found.named_after < 30


def truth(*culprits: tuple[str, list[int], str | None], tolerates: tuple[tuple[str, int], ...] = ()) -> Truth:
    some = [{"kind": kind, "ranks": ranks, "direction": direction} for kind, ranks, direction in culprits]
    known = {"name": "any", "onset_ns": 0, "rc": {}, "per_host": 2, "culprits": some, "tolerates": tolerates}
    return Truth(json.loads(json.dumps(known)))


SLOW = Finding(Kind.SLOW_RANK, "", ranks=(2,), cause=Cause.OFF_CPU)
LINK = Finding(Kind.SLOW_LINK, "", hosts=("lab-h1",), direction=Direction.TRANSMIT)
NOTHING = Finding(Kind.NOTHING, "")


@pytest.mark.parametrize(
    ("findings", "grade"),
    [
        ([SLOW], Grade.RIGHT),
        ([NOTHING], Grade.NONE),
        ([replace(SLOW, cause=Cause.INPUT)], Grade.CAUSE),
        ([replace(SLOW, kind=Kind.DEAD)], Grade.KIND),
        ([replace(SLOW, ranks=(2, 3))], Grade.PAIR),
        ([replace(SLOW, ranks=(1,))], Grade.WRONG),
        ([replace(SLOW, ranks=(1,)), SLOW], Grade.WRONG),
        ([LINK], Grade.PAIR),
    ],
)
def test_grades_of_a_slow_rank(findings: list[Finding], grade: Grade) -> None:
    assert truth(("compute", [2], None)).grade(findings).grade is grade


def test_what_is_said_of_innocents_besides() -> None:
    found = truth(("compute", [2], None)).grade([SLOW, replace(SLOW, ranks=(5,))])
    assert (found.grade, found.also_wrong) == (Grade.RIGHT, ("slow_rank 5 compute or other",))


def test_a_host_is_its_ranks_and_has_a_direction() -> None:
    slow = truth(("link", [2, 3], "up"))
    assert slow.grade([LINK]).grade is Grade.RIGHT
    assert slow.grade([replace(LINK, direction=Direction.RECEIVE)]).grade is Grade.DIRECTION
    assert slow.grade([replace(SLOW, kind=Kind.SLOW_LINK)]).grade is Grade.PART


def test_both_of_two_have_to_be_named() -> None:
    two = truth(("compute", [1], None), ("compute", [2], None))
    assert two.grade([SLOW]).grade is Grade.NONE
    assert two.grade([SLOW, replace(SLOW, ranks=(1,))]).grade is Grade.RIGHT
    assert two.grade([replace(SLOW, ranks=(1, 2))]).grade is Grade.RIGHT


def test_who_is_named_though_nothing_is_wrong() -> None:
    pauses = Finding(Kind.PAUSES, "", ranks=(0,))
    assert truth().grade([pauses]).grade is Grade.FALSE_ALARM
    assert truth(tolerates=(("recurring_pauses", 0),)).grade([pauses]).grade is Grade.RIGHT
    assert truth().grade([NOTHING]).grade is Grade.RIGHT


def _lines(path: Path, *messages: dict[str, Any]) -> int:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(message) + "\n" for message in messages))
    return path.stat().st_size


def test_what_a_job_told_of_itself(tmp_path: Path) -> None:
    def log(at: int, over: bool) -> dict[str, Any]:
        about = {
            semconv.DIAGNOSIS_KIND: "slow_rank",
            semconv.DIAGNOSIS_RANKS: "2",
            semconv.DIAGNOSIS_CAUSE: "input",
        }
        pairs = [{"key": str(key), "value": {"stringValue": value}} for key, value in about.items()]
        pairs.append({"key": str(semconv.DIAGNOSIS_OVER), "value": {"boolValue": over}})
        event = {"eventName": semconv.EVENT_DIAGNOSIS, "timeUnixNano": str(at), "body": {"stringValue": "Rank 2"}}
        return {"resourceLogs": [{"scopeLogs": [{"logRecords": [{**event, "attributes": pairs}]}]}]}

    _lines(tmp_path / "telemetry" / "logs-a.jsonl", log(9, over=True), log(5, over=False))
    assert told(tmp_path) is None  # a job without
    _lines(tmp_path / "telemetry" / "metrics-a.jsonl", {"name": semconv.DIAGNOSIS_DURATION_METRIC.name})
    assert told(tmp_path) == [(5, Finding(Kind.SLOW_RANK, "Rank 2", ranks=(2,), cause=Cause.INPUT))]


def test_nothing_is_known_before_it_was_written(tmp_path: Path) -> None:
    def heartbeat(rank: int) -> dict[str, Any]:
        pairs = [{"key": str(semconv.RANK), "value": {"intValue": str(rank)}}]
        log = {"eventName": semconv.EVENT_HEARTBEAT, "timeUnixNano": "1"}
        return {"resourceLogs": [{"resource": {"attributes": pairs}, "scopeLogs": [{"logRecords": [log]}]}]}

    second = 10**9
    sizes = [_lines(tmp_path / "telemetry" / f"logs-{rank}.jsonl", heartbeat(rank)) for rank in (0, 1)]
    arrivals = ([10 * second, "logs-0.jsonl", sizes[0]], [12 * second, "logs-1.jsonl", sizes[1]])
    (tmp_path / "arrivals.jsonl").write_text("".join(json.dumps(each) + "\n" for each in arrivals))
    seen = {at / second: (evidence.ranks, evidence.silent) for at, evidence in looks(tmp_path, truth())}
    assert seen[11.5] == ([0], {0: 1.5})
    assert seen[12.5] == ([0, 1], {0: 2.5, 1: 0.5})


def test_every_case_is_expected() -> None:
    kinds = {culprit.kind for case in CASES.values() for culprit in case.culprits(1)}
    assert kinds == EXPECTED.keys()
