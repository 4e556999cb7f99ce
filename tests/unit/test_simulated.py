"""Simulated jobs of many ranks: who has a fault is named and nobody else is, in both volumes of telemetry."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.planted import KINDS, Shape
from benchmarks.scale import FAULTS, OTHERS
from benchmarks.simulated import simulate
from benchmarks.simulated_files import Volume, write
from otel_netmon.analysis.summary import summarise
from otel_netmon.diagnosis.finding import Kind
from otel_netmon.diagnosis.steps import sample_of
from otel_netmon.emit.chosen import MOST_SPANS
from otel_netmon.live.digest import Digest, DigestedStep, pack
from otel_netmon.live.judge import Judge, Look
from otel_netmon.records import HostTraffic, PeerTraffic, RankStep
from otel_netmon.store.problems import Problems
from otel_netmon.store.reader import read

RANKS_64 = Shape(4, 4, 4)
STEPS = 40

CASES: list[tuple[Volume, Sequence[str]]] = [
    *(("steps", (name,)) for name in KINDS),
    *(("full", faults) for faults in (FAULTS, *OTHERS)),
    ("steps", ()),
]


@pytest.mark.parametrize(("volume", "faults"), CASES)
def test_culprits_are_named_and_nobody_else(tmp_path: Path, volume: Volume, faults: Sequence[str]) -> None:
    job = simulate(RANKS_64, STEPS, faults, keep_all=volume == "full")
    size = write(job, tmp_path, volume)
    summary = summarise(tmp_path)
    (diagnosis,) = summary.diagnoses
    assert {each.name for each in job.faults} == {*faults}
    for fault in job.faults:
        assert any(map(fault.is_named, diagnosis.findings)), diagnosis.findings
    accusing = [finding for finding in diagnosis.findings if finding.accuses]
    assert len(accusing) == len(faults)
    if not faults:
        assert [finding.kind for finding in diagnosis.findings] == [Kind.NOTHING]
    assert (summary.size, diagnosis.ranks, diagnosis.steps) == (size, RANKS_64.ranks, STEPS)
    assert summary.losses.bad_records == summary.losses.corrupt_lines == summary.losses.missing_spans == 0


def looks(folder: Path) -> list[Look]:
    """At what the ranks would have told one another, five steps at a time."""
    told: dict[int, list[RankStep | PeerTraffic | HostTraffic]] = defaultdict(list)
    for path in folder.iterdir():
        for record in read(path, Problems()):
            if isinstance(record, RankStep | PeerTraffic | HostTraffic) and record.source is not None:
                told[record.source.rank or 0].append(record)
    judge = Judge()
    return [
        judge.look(4.0 * number, [(rank, digest_of(rank, number, each)) for rank, each in told.items()])
        for number in range(STEPS // 5)
    ]


def digest_of(rank: int, number: int, told: Sequence[RankStep | PeerTraffic | HostTraffic]) -> bytes:
    steps = [each for each in told if isinstance(each, RankStep) and each.name == "rank_step"]
    steps = [each for each in steps if (each.step or 0) // 5 == number]
    begin, end = min(each.start for each in steps), max(each.end for each in steps)
    source = steps[0].source
    assert source is not None
    tied = [DigestedStep(each.step or 0, int(each.trace_id[-8:], 16), sample_of(each)) for each in steps]
    traffic = [each for each in told if isinstance(each, PeerTraffic) and begin < each.at <= end]
    nics = [each for each in told if isinstance(each, HostTraffic) and begin < each.at <= end]
    about = rank, RANKS_64.ranks, source.host or "", number, end, None, False, None
    return pack(Digest(*about, tuple(tied), tuple(traffic), (), (), tuple(nics)))


@pytest.mark.parametrize("faults", [FAULTS, *OTHERS, ()])
def test_a_look_at_digests_names_them_too(tmp_path: Path, faults: Sequence[str]) -> None:
    job = simulate(RANKS_64, STEPS, faults, keep_all=False)
    write(job, tmp_path, "steps")
    last = looks(tmp_path)[-1].told.values()
    for fault in job.faults:
        assert any(map(fault.is_named, last)), last
    assert len([finding for finding in last if finding.accuses]) == len(faults)


def test_a_trace_stays_small_however_many_ranks_there_are(tmp_path: Path) -> None:
    job = simulate(Shape(8, 2, 160), 2, keep_all=False)
    write(job, tmp_path, "steps")
    traces: dict[str, Counter[str]] = {}
    packed = 0
    for path in tmp_path.iterdir():
        for line in path.read_text().splitlines():
            packed += line.count('"torch.distributed.step.collectives"')
            for scope in json.loads(line).get("resourceSpans", ()):
                for span in scope["scopeSpans"][0]["spans"]:
                    traces.setdefault(span["traceId"], Counter())[span["name"]] += 1
    (trace,) = traces.values()  # of two steps one is traced
    assert trace["train_step"] == 1
    assert 0.2 * MOST_SPANS < trace["rank_step"] <= MOST_SPANS / 2
    assert 0.8 * MOST_SPANS < trace.total() <= MOST_SPANS
    assert packed == job.shape.ranks
