"""What the HTML report takes: CPU to read and to render, bytes, and the time until Chromium has the page ready."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.measuring import ROOT, Line, Size, spread
from otel_netmon.analysis.summary import examine
from otel_netmon.cli.report import NAME
from otel_netmon.cli.summary import reading
from otel_netmon.report.page import page
from tests.unit.report.synthetic import made_up

SIZES = ((4, 200, 100e3), (64, 200, 200e3), (1000, 1000, 1e6))
"""Ranks, steps, and bytes that the page may have."""
CHROMIUM = Path("/usr/bin/chromium")
_LIMIT = 25e6
"""Bytes that are to be read in a second of CPU."""


def pages(size: Size) -> Iterator[Line]:
    """A real run in files, and made-up ones of three sizes."""
    with tempfile.TemporaryDirectory() as folder:
        yield from _reading(Path(folder) / "run", size)
        for ranks, steps, most in SIZES[: size(len(SIZES), 1)]:
            what = f"report of {ranks:,} ranks x {steps:,} steps"
            values = made_up(ranks, steps)
            text = page(*values, "run")
            costs = [_cpu(partial(page, *values, "run")) for _ in range(size(5))]
            yield Line(f"{what}: rendering, CPU", "s", spread(costs), most=2.0)
            yield Line(f"{what}: the page", "By", spread([len(text.encode())]), most=most)
            path = Path(folder) / "page.html"
            path.write_text(text, encoding="utf-8")
            yield _ready(what, path, size(5))


def _cpu(call: Callable[[], object]) -> float:
    since = time.process_time()
    call()
    return time.process_time() - since


def _reading(folder: Path, size: Size) -> Iterator[Line]:
    """The example on four ranks: all of `otel-netmon report` but its start."""
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(size(4)))
    run = (sys.executable, "-m", "otel_netmon.cli", "run", "--output", str(folder), "--", *torchrun)
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*run, "examples/train_digits.py"], cwd=ROOT, env=environ, capture_output=True, check=True)
    (folder / NAME).unlink()
    total = sum(path.stat().st_size for path in folder.iterdir())

    def report() -> None:
        with reading() as progress:
            page(*examine(folder, progress=progress), "run")

    costs = [_cpu(report) for _ in range(size(9))]
    what = f"report of a run of {total / 1e6:.1f} MB: CPU for each 25 MB read, analysed and rendered"
    yield Line(what, "s", spread([cost * _LIMIT / total for cost in costs]), most=1.0)


def _ready(what: str, path: Path, times: int) -> Line:
    """From the call to the load event, on the clock, in a browser that has been started."""
    what = f"{what}: ready in Chromium"
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return Line(what, note="needs pip install playwright")
    if not CHROMIUM.exists():
        return Line(what, note="needs Debian's Chromium: apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        seconds = []
        for _ in range(times):
            since = time.perf_counter()
            tab.goto(path.as_uri(), wait_until="load")
            tab.screenshot()  # it is painted
            seconds.append(time.perf_counter() - since)
        browser.close()
    return Line(what, "s", spread(seconds), most=1.0)
