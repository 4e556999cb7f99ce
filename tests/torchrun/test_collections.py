"""The job is not stopped for full garbage collections that it would not have had without us."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.torchrun.harness import ROOT

STEPS = 220


def collections(*before: str) -> list[list[int]]:
    """Each rank's collections of each generation after the first 20 steps."""
    done = subprocess.run(
        [
            *before,
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
            *(str(ROOT / "benchmarks" / "collected_ddp.py"), str(STEPS)),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=150,
    )
    # Without us torch aborts at the end of a gloo job now and then; what it counted has been printed by then.
    assert done.returncode == 0 or not before, done.stderr
    return [json.loads(line)["collections"] for line in done.stdout.splitlines() if line.startswith("{")]


def test_the_training_has_the_full_collections_that_it_would_have_had(tmp_path: Path) -> None:
    ours = collections(sys.executable, "-m", "otel_netmon.cli", "run", "--output", str(tmp_path), "--")
    plain = collections()
    assert len(ours) == len(plain) == 2
    assert max(full for _, _, full in ours) <= max(full for _, _, full in plain)
    # 5,000 spans: some objects each would be hundreds of collections, and every hundredth or so is a full one
    assert max(young for young, _, _ in ours) < 60
