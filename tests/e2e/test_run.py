"""The main job: `otel-netmon run` on a DDP script under torchrun that knows nothing of us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.installed import ROOT, python_path

pytest.importorskip("torch")

STEPS = 25
OTEL_NETMON = (sys.executable, "-m", "otel_netmon.cli")

SCRIPT = textwrap.dedent(
    """
    import sys, time
    import torch
    import torch.distributed as dist

    steps, late, broken = map(int, sys.argv[1:])
    torch.manual_seed(0)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(64, 64))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(steps):
        if rank == late:
            time.sleep(0.06)
        if rank == broken and step == steps - 1:
            raise SystemExit(3)
        optimizer.zero_grad()
        model(torch.randn(8, 64)).sum().backward()
        optimizer.step()
    sys.stdout.write(f"rank {rank} is done\\n")  # one write: the lines of two ranks never mix
    dist.destroy_process_group()
    """
)


def run(folder: Path, *, late: int = -1, broken: int = -1) -> tuple[int, str, str, dict[str, Any]]:
    """Exit code, stdout and stderr of the job, and its summary. The whole session is killed at the time limit."""
    script = folder / "plain_ddp.py"
    script.write_text(SCRIPT)
    unwanted = ("OTEL_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_", "TORCH")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    environ |= {"PYTHONPATH": python_path(folder / "site") or str(ROOT), "OMP_NUM_THREADS": "1"}
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    process = subprocess.Popen(
        [*OTEL_NETMON, "run", "--", *torchrun, str(script), str(STEPS), str(late), str(broken)],
        cwd=folder,
        env=environ,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=120)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    (output,) = (folder / "otel-netmon-runs").iterdir()
    done = subprocess.run(
        [*OTEL_NETMON, "summary", "--json", str(output)], env=environ, capture_output=True, timeout=60, check=True
    )
    return process.returncode, out, err, json.loads(done.stdout)


def test_a_job_with_a_late_rank(tmp_path: Path) -> None:
    code, out, err, summary = run(tmp_path, late=1)
    assert code == 0, err
    assert sorted(out.splitlines()) == ["rank 0 is done", "rank 1 is done"]
    assert "otel-netmon summary" in err and "Rank 1 comes" in err

    assert (summary["ranks"], summary["world_size"], len(summary["runs"])) == ([0, 1], 2, 1)
    assert (summary["steps"]["span"], summary["steps"]["count"]) == ("train_step", STEPS)
    (all_reduce,) = (o for o in summary["operations"] if o["operation"] == "all_reduce")
    assert (all_reduce["calls"], all_reduce["failed"], all_reduce["unfinished"]) == (2 * STEPS, 0, 0)
    assert all_reduce["size"] == 2 * STEPS * 4 * (64 * 64 + 64)  # every gradient once a step, whatever the buckets
    assert all_reduce["busbw"] == pytest.approx(all_reduce["algbw"])  # 2 (n - 1) / n is 1 for two ranks
    assert summary["waiting"]["unmatched"] == 0
    (diagnosis,) = summary["diagnoses"]
    assert (diagnosis["findings"][0]["kind"], diagnosis["findings"][0]["ranks"]) == ("slow_rank", [1])
    losses = summary["losses"]
    assert (sum(losses["dropped"].values()), losses["missing_spans"]) == (0, 0)
    assert not any(losses[name] for name in ("truncated_lines", "corrupt_lines", "bad_records", "skipped_files"))


def test_a_job_that_fails_keeps_its_exit_code_and_its_spans(tmp_path: Path) -> None:
    code, _, err, summary = run(tmp_path, broken=1)
    assert code == 1  # torchrun's, not the rank's
    assert "otel-netmon summary" in err
    # Rank 0 hangs in the last step's all_reduce, or fails there, when torchrun ends it.
    assert summary["ranks"] == [0, 1]
    (all_reduce,) = (o for o in summary["operations"] if o["operation"] == "all_reduce")
    finished = all_reduce["calls"] - all_reduce["failed"] - all_reduce["unfinished"]
    assert finished == 2 * (STEPS - 1)
