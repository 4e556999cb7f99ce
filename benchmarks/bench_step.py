"""A DDP step with 24 or more collectives on two ranks, captured and not: blocks of steps alternate in one job."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RUNS = 3


def run() -> dict[str, Any]:
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, str(ROOT / "benchmarks" / "timed_ddp.py")],
        env=environ,
        stdout=subprocess.PIPE,
        timeout=300,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout.decode().strip().splitlines()[-1])
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    runs = [run() for _ in range(RUNS)]
    ratios = [each["captured"] / each["plain"] for each in runs]
    result = {
        "runs": RUNS,
        "steps of each kind in a run": runs[0]["steps"],
        "plain step, median (ms)": statistics.median(each["plain"] for each in runs) * 1e3,
        "captured / plain, median of the runs": statistics.median(ratios),
        "captured / plain, least": min(ratios),
        "captured / plain, greatest": max(ratios),
    }
    if arguments.json:
        print(json.dumps({"benchmark": "step", **result}))
    else:
        for name, value in result.items():
            print(f"{name:60} {value:12,.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
