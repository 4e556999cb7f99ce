"""Runs the demo's script unchanged and has rank 0 write when each optimizer step ended, as JSON.

    torchrun … timed_digits.py FILE [arguments of train_digits.py]

The hook that takes the times is the same whether the run is instrumented or not.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import time
from pathlib import Path

from torch.optim.optimizer import register_optimizer_step_post_hook


def main() -> int:
    file, *arguments = sys.argv[1:]
    script = Path(__file__).parents[1] / "examples" / "train_digits.py"
    ends: list[float] = []
    register_optimizer_step_post_hook(lambda *_: ends.append(time.perf_counter()))
    sys.argv = [str(script), *arguments]
    cpu = time.process_time()
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as stop:
        cpu = time.process_time() - cpu
        if os.environ["RANK"] == "0":
            Path(file).write_text(json.dumps({"ends": ends, "cpu": cpu}))
        return stop.code if isinstance(stop.code, int) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
