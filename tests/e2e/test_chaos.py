"""Jobs that break: what the survivors recorded arrives, and the launcher's verdict is the same."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from otel_netmon import semconv

PROGRAMS = Path(__file__).parent / "programs"
RANKS = 3


def start(folder: Path, how: str, **environ: str) -> subprocess.Popen[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TORCH"))}
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("otel-netmon")), "run", "--output", str(folder), "--",
         sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}",
         str(PROGRAMS / "one_fails.py"), how],
        env={**clean, "OMP_NUM_THREADS": "1", **environ},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


def spans_by_rank(folder: Path) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for file in folder.glob("traces-*"):
        for line in file.read_text().splitlines():
            for resource in json.loads(line)["resourceSpans"]:
                about = {a["key"]: a["value"] for a in resource["resource"]["attributes"]}
                rank = int(about["torch.distributed.rank"]["intValue"])
                for scope in resource["scopeSpans"]:
                    found.setdefault(rank, []).extend(scope["spans"])
    return found


def stalls(folder: Path) -> list[dict[str, Any]]:
    """The log events of collectives that hang."""
    return [
        event
        for file in folder.glob("logs-*")
        for line in file.read_text().splitlines()
        for resource in json.loads(line)["resourceLogs"]
        for scope in resource["scopeLogs"]
        for event in scope["logRecords"]
        if event["eventName"] == semconv.EVENT_STALLED
    ]


def state(span: dict[str, Any]) -> str | None:
    about = {a["key"]: next(iter(a["value"].values())) for a in span["attributes"]}
    return about.get("torch.distributed.collective.state")


def check_survivors(folder: Path) -> None:
    found = spans_by_rank(folder)
    for rank in range(RANKS - 1):
        reduced = [span for span in found[rank] if span["name"] == "all_reduce"]
        assert len(reduced) == 11, rank  # two in each of five steps, and the one that nobody joined
        assert [state(span) for span in reduced].count("in_flight") + sum(
            "code" in span.get("status", {}) for span in reduced
        ) == 1
        assert sum(span["name"] == "rank_step" for span in found[rank]) >= 5


@pytest.mark.row("one rank raises, torchrun ends the others")
def test_one_rank_raises_and_the_others_are_ended(tmp_path: Path, ledger: Callable[..., None]) -> None:
    job = start(tmp_path / "out", "raise")
    output, _ = job.communicate(timeout=120)
    assert job.returncode == 1, output
    assert "this rank is broken" in output
    check_survivors(tmp_path / "out")
    ledger(lost=0)


@pytest.mark.row("a rank hangs, the scheduler ends the job")
def test_a_job_that_hangs_is_ended_by_its_scheduler(tmp_path: Path, ledger: Callable[..., None]) -> None:
    """SIGTERM to the launcher's group, as Slurm sends it: within the grace period all is written."""
    job = start(tmp_path / "out", "hang", OTEL_NETMON_STALL_AFTER="1", OTEL_BLRP_SCHEDULE_DELAY="200")
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            steps = spans_by_rank(tmp_path / "out") if (tmp_path / "out").is_dir() else {}
            known = all(
                sum(span["name"] == "rank_step" for span in steps.get(rank, ())) >= 5 for rank in range(RANKS)
            )
            if known and len(stalls(tmp_path / "out")) == RANKS - 1:
                break
            time.sleep(0.2)
        sent = time.monotonic()
        os.killpg(job.pid, signal.SIGTERM)
        output, _ = job.communicate(timeout=60)
        took = time.monotonic() - sent
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
    assert job.returncode != 0, output
    assert took < 15, output  # of which five are ours at most: torchrun waits for its ranks
    check_survivors(tmp_path / "out")
    spans = {span["spanId"] for found in spans_by_rank(tmp_path / "out").values() for span in found}
    told = stalls(tmp_path / "out")
    assert len(told) == RANKS - 1 and {event["spanId"] for event in told} <= spans  # what was told while it hung
    ledger(lost=0, exit=took)
