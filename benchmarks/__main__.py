"""Measures what otel-netmon costs and prints one table: ``python -m benchmarks [ROW...] [--json] [--tiny]``.

Each row runs in a process of its own, one after the other. With ``--json`` each line of the table is one object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.measuring import ROOT, Line, Size
from benchmarks.rows import ROWS, measure


def lines(name: str, *, tiny: bool) -> Iterator[Line]:
    """Of one row, measured in a process of its own; why it failed, if it does."""
    command = [sys.executable, "-m", "benchmarks", "--here", name, *(["--tiny"] if tiny else [])]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        output, errors = process.communicate()
    yield from (Line.of(json.loads(line)) for line in output.splitlines() if line.startswith('{"row"'))
    if process.returncode:
        yield Line(name, note=f"FAILED: {(errors.strip().splitlines() or ['no reason given'])[-1]}")


def number(value: float | None) -> str:
    """Three digits or so."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


HEAD = ("what", "unit", "plain or limit", "before", "measured", "spread", "target", "met")


def cells(line: Line) -> tuple[str, ...]:
    """Of the table."""
    found = line.measured
    measured = (number(found.median), f"{number(found.low)} to {number(found.high)}") if found else ("", line.note)
    target = f"<= {line.most:g}" if line.most is not None else ""
    met = {None: "", True: "yes", False: "NO"}[line.met]
    return (line.what, line.unit, number(line.plain), line.before, *measured, target, met)


def show(name: str, found: list[Line], *, as_json: bool) -> None:
    """Print what was measured of one row."""
    for line in found:
        if as_json:
            print(json.dumps({"row": name, **line.to_dict()}), flush=True)
        else:
            print(f"| {' | '.join(cells(line))} |", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.partition("\n")[0])
    parser.add_argument("rows", metavar="ROW", nargs="*", help=f"all by default: {', '.join(ROWS)}")
    parser.add_argument("--json", action="store_true", help="one object for each line")
    parser.add_argument("--tiny", action="store_true", help="hardly measure: only see that each row runs")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := [name for name in options.rows if name not in ROWS]:
        parser.error(f"there is no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    if options.here:
        for name in options.rows:
            for line in measure(name, Size(options.tiny)):
                print(json.dumps({"row": name, **line.to_dict()}), flush=True)
        return 0
    if not options.json:
        print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}", flush=True)
    failed = False
    for name in options.rows or ROWS:
        start = time.monotonic()
        found = list(lines(name, tiny=options.tiny))
        show(name, found, as_json=options.json)
        failed = failed or any(line.note.startswith("FAILED") for line in found)
        print(f"{name}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
