"""``make faults``: run the cases, and say how the diagnosis fares."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

from . import evaluate
from .catalogue import CASES, CLEAN, FIXED, Case
from .lab import missing
from .record import record


def chosen() -> list[tuple[Case, int]]:
    """``FAULTS``: names, all by default; ``CULPRITS``: ranks, 0, 1 and 2 by default."""
    names = [name for name in os.environ.get("FAULTS", "").split(",") if name] or list(CASES)
    culprits = [int(rank) for rank in (os.environ.get("CULPRITS") or "0,1,2").split(",")]
    unknown = sorted(set(names) - set(CASES))
    if unknown:
        raise SystemExit(f"FAULTS: there is no {', '.join(unknown)}; there are {', '.join(CASES)}")
    alike = {case.name for case in CLEAN} | FIXED
    return [(CASES[name], rank) for name in names for rank in (culprits[:1] if name in alike else culprits)]


def main() -> int:
    folder = Path(os.environ.get("FAULTS_DIR") or "build/faults").absolute()
    reason = missing()
    if reason is not None:
        print(f"the faults cannot be made here: {reason}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that namespaces and cgroups go
    for case, culprit in chosen():
        place = folder / (case.name if not case.culprits(0) or case.name in FIXED else f"{case.name}-c{culprit}")
        if (place / "truth.json").exists():
            continue
        why = case.needs()
        if why is not None:
            print(f"{place.name}: left out: {why}", flush=True)
            continue
        shutil.rmtree(place, ignore_errors=True)
        began = time.monotonic()
        record(case, culprit, place)
        print(f"{place.name}: {case.how} ({time.monotonic() - began:.0f} s)", flush=True)
    return evaluate.main(folder)


if __name__ == "__main__":
    sys.exit(main())
