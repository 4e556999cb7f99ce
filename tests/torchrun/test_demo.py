"""The demo, unmodified, under ``otel-netmon run``: every all_reduce is in the files, its losses are the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from otel_netmon.records import Collective, HostSample, RankStep
from tests.torchrun.harness import PROGRAMS, ROOT
from tests.wrote import wrote

pytest.importorskip("sklearn", reason="the demo trains on scikit-learn's digits: pip install scikit-learn")

RANKS = 4


def train(folder: Path, *prefix: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "TORCH_", "MASTER_"))}
    return subprocess.run(
        [
            *(*prefix, sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}"),
            *(str(PROGRAMS / "demo_and_truth.py"), str(folder), str(ROOT / "examples" / "train_digits.py")),
            *("--epochs", "4"),
        ],
        env={**env, "OMP_NUM_THREADS": "1", "TORCH_FR_BUFFER_SIZE": "20000"},
        capture_output=True,
        text=True,
        timeout=170,
    )


def files_with(folder: Path, metric: str) -> list[str]:
    found = wrote(folder, HostSample, "metrics-*.jsonl")
    return sorted({file for file, sample in found if sample.metric == metric})


def test_the_demo_is_seen_whole_and_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    run = tmp_path / "run"
    plain = train(tmp_path / "plain")
    if "terminate called without an active exception" in plain.stderr:
        plain = train(tmp_path / "plain")  # torch's own, now and then, when its threads end late on a busy machine
    ours = train(tmp_path, str(Path(sys.executable).with_name("otel-netmon")), "run", "--output", str(run), "--")
    assert plain.returncode == 0, plain.stderr
    assert ours.returncode == 0, ours.stderr

    # bit-identical: the script prints its losses in full precision
    assert "loss" in plain.stdout
    assert ours.stdout == plain.stdout

    collectives = [span for _, span in wrote(run, Collective, "traces-*.jsonl")]
    periods = [span for _, span in wrote(run, RankStep, "traces-*.jsonl")]
    for rank in range(RANKS):
        truth = Counter(
            (entry["profiling_name"].removeprefix("gloo:"), entry["collective_seq_id"])
            for entry in json.loads((tmp_path / f"{rank}.json").read_text())["entries"]
        )
        seen = Counter((span.operation, span.sequence) for span in collectives if span.rank == rank)
        assert seen == truth
        assert sum(truth.values()) >= 30

    # one trace a step, all ranks in it, one root, every parent there
    steps: dict[int | None, set[str]] = {}
    for span in periods:
        if span.name == "rank_step":
            steps.setdefault(span.step, set()).add(span.trace_id)
    assert len(steps) >= 30
    assert all(len(traces) == 1 for traces in steps.values())
    by_trace = Counter(span.trace_id for span in periods if span.name == "rank_step")
    assert set(by_trace.values()) == {RANKS}
    spans: list[Collective | RankStep] = [*collectives, *periods]
    ids = {span.span_id for span in spans}
    assert len(ids) == len(spans)
    assert all(span.parent_id for span in collectives)
    assert Counter(span.name for span in periods if not span.parent_id) == {"train_step": len(steps), "setup": 1}
    assert all(span.parent_id in ids for span in spans if span.parent_id)

    # the host's monitors ran once, in the launcher; the collectives' metrics come from every rank
    (host_file,) = files_with(run, "system.network.io")
    assert "launcher" in host_file
    assert len(files_with(run, "torch.distributed.collective.duration")) == RANKS
