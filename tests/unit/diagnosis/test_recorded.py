"""Recorded runs of a real job with one fault each: the verdicts, from their telemetry alone."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from otel_netmon.analysis.summary import summarise
from otel_netmon.diagnosis.finding import Direction, Finding, Kind

RUNS = Path(__file__).parents[4] / "shared" / "data" / "faults"
NAMES = sorted(path.name.removesuffix(".tgz") for path in RUNS.glob("*.tgz"))

KINDS = {
    "compute": {Kind.SLOW_RANK},
    "input": {Kind.SLOW_RANK},
    "gc": {Kind.PAUSES},
    "stall": {Kind.PAUSES},
    "link": {Kind.SLOW_LINK},
    "delay": {Kind.SLOW_LINK},
    "cpu": {Kind.STARVED},
    "loss": {Kind.LOSSY},
    "cross": {Kind.CROSS_TRAFFIC},
    "flap": {Kind.FLAPPING},
    "stop": {Kind.FROZEN, Kind.PAUSED},
    "hang": {Kind.HUNG},
    "dead": {Kind.DEAD},
    "cut": {Kind.CUT},
    "desync": {Kind.DESYNCHRONISED},
}
WAYS = {"up": Direction.TRANSMIT, "down": Direction.RECEIVE, "both": Direction.BOTH, None: None}

LOST_WITH_ITS_PROCESS = {"desync_size-c2"}
"""gloo ended the process, and version 0.1.0 lost its last calls with it: that it is dead is all there is."""
DIRECTION_NOT_TOLD = {"weak_rate_up-c2"}


@pytest.mark.skipif(not NAMES, reason="needs the recorded runs in ../shared/data/faults")
@pytest.mark.parametrize("name", NAMES)
def test_the_verdict_of_a_recorded_run(name: str, tmp_path: Path) -> None:
    with tarfile.open(RUNS / f"{name}.tgz") as archive:
        archive.extractall(tmp_path, filter="data")
    (truth_file,) = tmp_path.rglob("truth.json")
    truth = json.loads(truth_file.read_text())
    (diagnosis,) = summarise(truth_file.parent / "telemetry").diagnoses
    first, *more = diagnosis.findings
    if truth["cls"] == "none":
        assert not first.accuses, first.sentence
        return
    assert names(first, truth), first.sentence
    assert all(names(each, truth) for each in more if each.accuses), more
    if name in LOST_WITH_ITS_PROCESS:
        assert first.kind is Kind.DEAD
        return
    assert first.kind in KINDS[truth["cls"]], first.sentence
    if name not in DIRECTION_NOT_TOLD:
        assert first.direction is WAYS[truth["direction"]], first.sentence


def names(finding: Finding, truth: dict[str, Any]) -> bool:
    """Whether it names the culprit, and nobody else."""
    if finding.ranks:
        return finding.ranks == tuple(truth["ranks"])
    return finding.hosts == tuple(truth["hosts"])
