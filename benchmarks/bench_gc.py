"""Garbage collections in a DDP job, with files of telemetry and without any: per generation, over 480 steps."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
STEPS = 500


def run(folder: str | None) -> list[dict[str, Any]]:
    """Each rank's counts; with telemetry into ``folder``, or plain."""
    job = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"),
        *(str(ROOT / "benchmarks" / "collected_ddp.py"), str(STEPS)),
    ]
    ours = [sys.executable, "-m", "otel_netmon.cli", "run", "--output", folder or "", "--"]
    done = subprocess.run(
        job if folder is None else [*ours, *job],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=300,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = {"plain": run(None), "with telemetry": run(folder)}
    if arguments.json:
        print(json.dumps({"benchmark": "gc", **result}))
        return 0
    for name, ranks in result.items():
        for one in ranks:
            young, middle, full = one["collections"]
            print(
                f"{name:16} rank {one['rank']}: {young:5} young, {middle:4} middle, {full:3} full "
                f"({one['full_s']:.2f} s) in {one['steps']} steps"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
