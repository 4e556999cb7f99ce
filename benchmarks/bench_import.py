"""What importing and instrumenting cost: fresh processes, alternating, each timing itself.

Medians of the time from the interpreter's first line to the end of the import or call; files are in the page
cache. Goals: import <= 100 ms over the SDK's, both ``instrument()`` together <= 20 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

_SDK = "import opentelemetry.sdk.trace, opentelemetry.sdk.metrics"
_MEASURED = {
    "import SDK": ("", _SDK),
    "import SDK, then BaseInstrumentor": ("", f"{_SDK}, opentelemetry.instrumentation.instrumentor"),
    "import SDK, then otel_netmon": ("", f"{_SDK}, otel_netmon"),
    "instrument() of both": (
        f"{_SDK}, otel_netmon",
        "otel_netmon.NetmonInstrumentor().instrument(); otel_netmon.TorchDistributedInstrumentor().instrument()",
    ),
}


def milliseconds(before: str, measured: str) -> float:
    """CPU-bound wall time of ``measured`` in a fresh process, after ``before``."""
    code = f"import time\n{before}\nt = time.perf_counter()\n{measured}\nprint((time.perf_counter() - t) * 1e3)"
    output = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return float(output.stdout)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for before, measured in _MEASURED.values():
        milliseconds(before, measured)  # compiles the bytecode, fills the page cache
    times: dict[str, list[float]] = {name: [] for name in _MEASURED}
    for _ in range(options.rounds):
        for name, (before, measured) in _MEASURED.items():
            times[name].append(milliseconds(before, measured))
    sdk, base, ours, instrument = (times[name] for name in _MEASURED)
    result = {
        "import_sdk_ms": statistics.median(sdk),
        "import_over_sdk_ms": statistics.median(b - a for a, b in zip(sdk, ours, strict=True)),
        "import_base_over_sdk_ms": statistics.median(b - a for a, b in zip(sdk, base, strict=True)),
        "instrument_ms": statistics.median(instrument),
        "instrument_max_ms": max(instrument),
        "rounds": options.rounds,
    }
    if options.json:
        print(json.dumps({"import": result}))
        return 0
    print(f"import of the SDK            {result['import_sdk_ms']:7.1f} ms")
    print(f"otel_netmon on top of it     {result['import_over_sdk_ms']:7.1f} ms   goal <= 100")
    print(
        f"  of that BaseInstrumentor   {result['import_base_over_sdk_ms']:7.1f} ms   any instrumentation needs it"
    )
    print(f"instrument() of both         {result['instrument_ms']:7.1f} ms   goal <= 20")
    print(f"medians of {options.rounds} fresh processes each, alternating")
    return 0


if __name__ == "__main__":
    sys.exit(main())
