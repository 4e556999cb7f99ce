"""What a step of the demo takes with and without us: whole runs, alternating.

Four ranks of ``examples/train_digits.py``, plain and under ``otel-netmon run`` with files as its output. The
first epoch is left out. The figure is the ratio of the medians over all steps of all runs, and beside it the
ratio of each neighbouring pair, which shows how much of it is noise.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_WARM_UP = 15  # steps of the first epoch


def run(folder: Path, number: int, *, instrumented: bool, epochs: int) -> dict[str, Any]:
    """One run of the demo: rank 0's step times in seconds, and its CPU seconds."""
    scripts = Path(sys.executable).parent
    file = folder / f"{number}.json"
    command = [
        *(str(scripts / "torchrun"), "--standalone", "--nproc-per-node=4"),
        *(str(ROOT / "benchmarks" / "timed_digits.py"), str(file), f"--epochs={epochs}"),
    ]
    if instrumented:
        command = [str(scripts / "otel-netmon"), "run", "--output", str(folder / f"run{number}"), "--", *command]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=environ, capture_output=True, timeout=300, check=True)
    said = json.loads(file.read_text())
    return {"steps": [b - a for a, b in pairwise(said["ends"])][_WARM_UP:], "cpu": said["cpu"]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    plain: list[dict[str, Any]] = []
    watched: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for number in range(options.pairs):
            # the order turns round with each pair: a drift of the machine then hits both alike
            for instrumented in (False, True) if number % 2 == 0 else (True, False):
                runs = watched if instrumented else plain
                runs.append(
                    run(Path(name), 2 * number + instrumented, instrumented=instrumented, epochs=options.epochs)
                )
    medians = [[statistics.median(one["steps"]) for one in runs] for runs in (plain, watched)]
    overall = [statistics.median(step for one in runs for step in one["steps"]) for runs in (plain, watched)]
    result = {
        "plain_step_ms": overall[0] * 1e3,
        "watched_step_ms": overall[1] * 1e3,
        "ratio": overall[1] / overall[0],
        "ratio_of_pairs": [b / a for a, b in zip(*medians, strict=True)],
        "cpu_ratio": sum(one["cpu"] for one in watched) / sum(one["cpu"] for one in plain),
        "steps": [sum(len(one["steps"]) for one in runs) for runs in (plain, watched)],
    }
    if options.json:
        print(json.dumps({"demo": result}))
        return 0
    print(f"median step, plain           {result['plain_step_ms']:7.2f} ms")
    print(f"median step, instrumented    {result['watched_step_ms']:7.2f} ms")
    print(f"ratio                        {result['ratio']:7.3f}")
    print("ratio of each pair of runs   " + "  ".join(f"{r:.3f}" for r in result["ratio_of_pairs"]))
    print(f"CPU of rank 0, ratio         {result['cpu_ratio']:7.3f}   imports included")
    print(f"{options.pairs} pairs of runs, alternating; {result['steps'][0]} steps each way")
    return 0


if __name__ == "__main__":
    sys.exit(main())
