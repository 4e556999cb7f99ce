"""What importing us costs, and what a rank's start does: fresh processes, by turns."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measuring import Line, Size, differences, otel_netmon_run, run, spread, turns

_SDK = "import opentelemetry.sdk.trace, opentelemetry.sdk.metrics"
_IMPORTS = {
    "import otel_netmon": "import otel_netmon",
    "from otel_netmon import an instrumentor": "from otel_netmon import NetmonInstrumentor",
    "import of OpenTelemetry's BaseInstrumentor alone": "import opentelemetry.instrumentation.instrumentor",
}


def importing(size: Size) -> Iterator[Line]:
    """After OpenTelemetry's SDK, with bytecode in the cache; the CPU of the import."""

    def once(code: str) -> float:
        timed = f"import time\n{_SDK}\nt = time.process_time()\n{code}\nprint((time.process_time() - t) * 1e3)"
        return float(run([sys.executable, "-c", timed], PYTHONDONTWRITEBYTECODE="").output)

    for code in _IMPORTS.values():
        once(code)  # writes the bytecode
    found = turns({name: lambda code=code: once(code) for name, code in _IMPORTS.items()}, size(15))  # type: ignore[misc]  # mypy infers no lambda with defaults
    for name, before, most in zip(
        _IMPORTS, ("93 to 107", "93 to 107", "53 to 68"), (40.0, None, None), strict=True
    ):
        yield Line(f"{name}, after the SDK", "ms", spread(found[name]), None, before, most)


def starting(size: Size) -> Iterator[Line]:
    """``otel-netmon run -- python -c "import torch"``, all of its processes, against the command alone."""
    plain = [sys.executable, "-c", "import torch"]
    with tempfile.TemporaryDirectory() as folder:

        def once(command: list[str]) -> float:
            return run(command, PYTHONDONTWRITEBYTECODE="").cpu

        ours = [*otel_netmon_run(Path(folder)), *plain]
        once(ours)
        found = turns({"plain": lambda: once(plain), "ours": lambda: once(ours)}, size(9))
    what = 'start-up of a rank, CPU: `otel-netmon run -- python -c "import torch"`'
    yield Line(f"{what}, without us", "s", spread(found["plain"]))
    yield Line(f"{what}, added", "s", differences(found["plain"], found["ours"]), None, "0.5", 0.3)
