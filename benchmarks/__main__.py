"""Runs every ``bench_*.py`` beside this file, one after the other: ``python -m benchmarks [--json]``.

With ``--json`` one object per benchmark, a line each. Fails when one of them does.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main() -> int:
    here = Path(__file__).parent
    failed = []
    for script in sorted(here.glob("bench_*.py")):
        print(f"# {script.stem}", file=sys.stderr, flush=True)
        if subprocess.run([sys.executable, script, *sys.argv[1:]], cwd=here.parent, check=False).returncode:
            failed.append(script.stem)
    if failed:
        print("failed:", ", ".join(failed), file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
