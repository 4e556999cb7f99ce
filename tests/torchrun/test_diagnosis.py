"""The diagnosis of a job while it runs: what it tells of real jobs, and that training notices nothing of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from otel_netmon import semconv
from otel_netmon.records import Collective, HostSample, RankStep, Verdict
from tests.torchrun.harness import PROGRAMS, ROOT
from tests.wrote import source_of, wrote

RANKS = 3
ABOUT = "otel_netmon.diagnosis."


class Job(NamedTuple):
    """What a job left."""

    printed: str
    verdicts: list[Verdict]
    samples: dict[str, list[HostSample]]
    """Of the diagnosis, by metric."""
    folder: Path

    def told(self, kind: str) -> list[Verdict]:
        return [one for one in self.verdicts if one.kind == kind and not one.is_over]

    def lines(self, word: str) -> list[str]:
        return [line for line in self.printed.splitlines() if word in line and "otel-netmon" in line]


def run(folder: Path, fault: str, seconds: float, *options: str, **more: str) -> Job:
    """A job of ``diagnosed.py`` below torchrun and ``otel-netmon run``, which has to end well."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TORCH", "MASTER_"))
    }
    done = subprocess.run(
        [
            *(sys.executable, "-m", "otel_netmon.cli", "run", "--output", str(folder / "out"), "--"),
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}"),
            *options,
            *(str(PROGRAMS / "diagnosed.py"), str(folder), fault, str(seconds)),
        ],
        env={**clean, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    steps = {int((folder / f"{rank}.json").read_text()) for rank in range(RANKS)}
    assert len(steps) == 1 and steps.pop() > 50, done.stdout
    assert "Traceback" not in done.stdout or fault == "restart", done.stdout
    samples = defaultdict(list)
    for _, sample in wrote(folder / "out", HostSample, "metrics-*.jsonl"):
        if sample.metric.startswith(ABOUT):
            samples[sample.metric].append(sample)
    verdicts = [one for _, one in wrote(folder / "out", Verdict, "logs-*.jsonl")]
    return Job(done.stdout, verdicts, samples, folder / "out")


def test_a_slow_rank_is_told_once_with_a_step_that_shows_it(tmp_path: Path) -> None:
    job = run(tmp_path, "slow", 60)
    (told,) = job.told("slow_rank")
    assert (told.ranks, told.confidence) == ("1", "high")
    assert told.lost is not None and 0.015 < told.lost < 0.06
    assert source_of(told).rank == 0, "the lowest rank tells"
    ours = [step for _, step in wrote(job.folder, RankStep) if step.trace_id == told.trace_id]
    assert {step.rank for step in ours if step.rank is not None} == set(range(RANKS))
    assert told.last_step in {step.step for step in ours}
    (line,) = [line for line in job.lines("Rank 1 ") if "no longer" not in line and "lost" not in line][:1]
    assert "ms" in line
    culprit = {str(semconv.DIAGNOSIS_KIND): "slow_rank", str(semconv.DIAGNOSIS_CULPRIT): "rank 1"}
    lost = [each.value for each in job.samples[semconv.DIAGNOSIS_LOST_METRIC.name] if each.attributes == culprit]
    assert lost and lost == sorted(lost) and lost[-1] > 1
    assert {each.value for each in job.samples[semconv.DIAGNOSIS_ACTIVE_METRIC.name]} == {1}
    assert max(each.value for each in job.samples[semconv.DIAGNOSIS_RANKS_METRIC.name]) == RANKS
    assert {source_of(each).rank for some in job.samples.values() for each in some} == {0}


def test_a_rank_that_hangs_is_told_while_it_hangs(tmp_path: Path) -> None:
    job = run(tmp_path, "hang", 60)
    (told,) = job.told("hung_rank")
    assert told.ranks == "2"
    spans = [span for _, span in wrote(job.folder, Collective, "traces-*.jsonl")]
    assert told.time < max(span.end for span in spans if span.end - span.start > 8e9), "its span came later"
    assert len(job.lines("Rank 2 never came to")) == 1


def test_a_job_that_is_restarted_is_another_job(tmp_path: Path) -> None:
    job = run(tmp_path, "restart", 60, "--max-restarts=1")
    (told,) = job.told("slow_rank")
    assert told.ranks == "1"
    attempts = {step.run_id for _, step in wrote(job.folder, RankStep) if step.attempt == 1}
    assert told.run_id in attempts


def test_without_a_store_over_tcp_nothing_is_told_and_nothing_breaks(tmp_path: Path) -> None:
    job = run(tmp_path, "no tcp store", 4)
    assert not job.verdicts and not job.samples and not job.lines("failed")


def test_a_store_that_dies_costs_the_diagnosis_alone(tmp_path: Path) -> None:
    job = run(tmp_path, "store dies", 10)
    assert not job.told("slow_rank") and not job.lines("failed")


def test_off_is_off(tmp_path: Path) -> None:
    job = run(tmp_path, "slow", 5, OTEL_NETMON_DIAGNOSIS="off")
    assert not job.verdicts and not job.samples
