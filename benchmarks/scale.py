"""What it takes to read the telemetry of 100 to 10,000 ranks, and whether the diagnosis names who is to blame.

Each command is a process of its own, as a user would start it. Files are written by a process of its own as well,
in ``SCALE_DATA`` or else the temporary folder: up to 4 GB at a time.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

from benchmarks.measuring import Done, Line, Size, run, spread
from benchmarks.planted import Fault, Shape
from benchmarks.simulated import simulate
from benchmarks.simulated_files import Volume, write
from otel_netmon.analysis.questions import QUESTIONS
from otel_netmon.diagnosis.finding import Finding, Kind

_FEW: Final = 40
"""Steps up to which the other faults are planted as well."""
MEMORY: Final = 2048.0
"""MiB that a command may take."""
FAULTS: Final = ("straggler", "throttled", "collector", "slow_link")
OTHERS: Final = (("lossy_link", "loader"), ())
"""Planted in jobs that are only diagnosed: two more faults, and none."""


class Run(NamedTuple):
    """A job to simulate."""

    shape: Shape
    steps: int
    volume: Volume


SMALL, MIDDLE, LARGE = Shape(4, 5, 5), Shape(8, 5, 25), Shape(8, 5, 250)
RUNS: Final = (
    Run(SMALL, 40, "full"),
    Run(SMALL, 80, "full"),
    Run(MIDDLE, 40, "full"),
    Run(MIDDLE, 40, "steps"),
    Run(MIDDLE, 80, "steps"),
    Run(LARGE, 30, "steps"),
    Run(LARGE, 60, "steps"),
)
TINY: Final = (Run(Shape(4, 2, 4), 40, "steps"),)


def growing(size: Size) -> Iterator[Line]:
    """Jobs that grow in ranks and in steps."""
    for one in TINY if size.is_tiny else RUNS:
        with tempfile.TemporaryDirectory(dir=os.environ.get("SCALE_DATA")) as name:
            yield from _measured(one, Path(name) / "run")
            for faults in OTHERS if one.steps <= _FEW else ():
                yield _named(one, faults, Path(name) / "run")


def _measured(one: Run, folder: Path) -> Iterator[Line]:
    """All commands, on a job with several faults."""
    what = f"{one.shape.ranks:,} ranks x {one.steps} steps, {one.volume}"
    planted, read = _generated(one, FAULTS, folder)
    yield Line(f"{what}: OTLP JSON", "MB", spread([read / 1e6]))
    yield from _taken(f"{what}: summary", _command("summary", folder))
    done = _command("diagnose", folder, "--json")
    yield from _taken(f"{what}: diagnose", done)
    yield _judged(f"{what}: named of {_said(FAULTS)}", planted, done.output)
    yield from _taken(f"{what}: report", _command("report", folder, "-o", folder.parent / "page.html"))
    page = (folder.parent / "page.html").stat().st_size
    yield Line(f"{what}: the page of the report", "MB", spread([page / 1e6]))
    yield from _taken(f"{what}: compact", _command("compact", folder))
    written = sum(path.stat().st_size for path in (folder / "compact").iterdir())
    yield Line(f"{what}: Parquet", "MB", spread([written / 1e6]))
    for question in QUESTIONS:
        yield from _taken(f"{what}: query {question}", _command("query", folder, question))


def _named(one: Run, faults: Sequence[str], folder: Path) -> Line:
    """Only the diagnosis of another job."""
    planted, _ = _generated(one, faults, folder)
    said = _command("diagnose", folder, "--json").output
    what = f"{one.shape.ranks:,} ranks x {one.steps} steps, {one.volume}: named of {_said(faults)}"
    return _judged(what, planted, said)


def _said(faults: Sequence[str]) -> str:
    return ", ".join(faults) or "no fault"


def _command(name: str, folder: Path, *more: object) -> Done:
    return run([sys.executable, "-m", "otel_netmon.cli", name, str(folder), *map(str, more)])


def _taken(what: str, done: Done) -> Iterator[Line]:
    yield Line(f"{what}, CPU", "s", spread([done.cpu]))
    yield Line(f"{what}, memory", "MiB", spread([done.memory / (1 << 20)]), most=MEMORY)


def _judged(what: str, planted: Sequence[Fault], said: str) -> Line:
    """How many of the culprits were named; fails if anybody else was, or one was not."""
    findings = [each for of_run in json.loads(said)["runs"] for each in of_run["findings"]]
    accusing = [_finding(each) for each in findings if each["ranks"] or each["hosts"]]
    named = [fault for fault in planted if any(map(fault.is_named, accusing))]
    wrong = [each.sentence for each in accusing if not any(fault.is_named(each) for fault in planted)]
    missed = [fault.name for fault in planted if fault not in named]
    note = "; ".join((*(f"not named: {each}" for each in missed), *(f"wrong: {each}" for each in wrong)))
    if note:
        return Line(what, note=f"FAILED: {note}")
    return Line(what, "", spread([float(len(named))]))


def _finding(said: dict[str, Any]) -> Finding:
    """As much of it as is judged."""
    return Finding(Kind(said["kind"]), said["sentence"], tuple(said["ranks"]), tuple(said["hosts"]))


def _generated(one: Run, faults: Sequence[str], folder: Path) -> tuple[list[Fault], int]:
    """What was planted, and the bytes written. In another process: what is started from one that is large counts
    as large."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "benchmarks.scale", *map(str, (*one.shape, one.steps, one.volume, folder))]
    said = json.loads(run([*command, *faults]).output)
    planted = [
        Fault(name, Kind(kind), tuple(ranks), tuple(hosts), since)
        for name, kind, ranks, hosts, since in said["planted"]
    ]
    return planted, said["bytes"]


def main(arguments: Sequence[str]) -> None:
    """Simulate and write a job: ranks of a host, stages, copies, steps, volume, folder and faults."""
    tensor, pipeline, data, steps, volume, folder, *faults = arguments
    shape = Shape(int(tensor), int(pipeline), int(data))
    job = simulate(shape, int(steps), faults, keep_all=volume == "full")
    written = write(job, Path(folder), cast(Volume, volume))
    print(json.dumps({"planted": job.faults, "bytes": written}))


if __name__ == "__main__":
    main(sys.argv[1:])
