"""What the benchmarks share: lines of the table, medians with their spread, turns, processes and their CPU time.

Times are CPU times wherever that is what is asked: on a machine that is shared they are steadier than the clock.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(sys.executable).parent


@dataclass(frozen=True)
class Spread:
    """A median, and the range that goes with it: quartiles, or an interval of confidence where a line says so."""

    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Line:
    """One line of the table. ``most`` is the target; ``measured`` is absent where ``note`` says why."""

    what: str
    unit: str = ""
    measured: Spread | None = None
    plain: float | None = None
    """The same without us, or the limit: what no implementation could do without."""
    before: str = ""
    """What it was before it was worked on."""
    most: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the median is within the target; ``None`` without one."""
        return None if self.measured is None or self.most is None else self.measured.median <= self.most

    def to_dict(self) -> dict[str, Any]:
        """What is known, for ``--json``."""
        return {
            name: value for name, value in {**asdict(self), "met": self.met}.items() if value not in (None, "")
        }

    @classmethod
    def of(cls, known: dict[str, Any]) -> Line:
        """Back from ``to_dict``."""
        known = {name: value for name, value in known.items() if name not in ("met", "row")}
        return cls(**{**known, "measured": Spread(**known["measured"]) if "measured" in known else None})


@dataclass(frozen=True)
class Size:
    """How much is measured: all of it, or hardly anything, to see that a row runs."""

    is_tiny: bool = False

    def __call__(self, count: int, tiny: int = 2) -> int:
        return tiny if self.is_tiny else count


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [*values] * 3
    return Spread(middle, low, high)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which so much of them is, by nearest rank."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def ratio(plain: Sequence[float], ours: Sequence[float], draws: int = 2000) -> Spread:
    """Geometric mean of ours / plain over neighbours, with its 95 % interval by bootstrap over the pairs."""
    pairs = [b / a for a, b in zip(plain, ours, strict=True)]
    chance = random.Random(1)  # the same figures give the same interval
    means = [statistics.geometric_mean(chance.choices(pairs, k=len(pairs))) for _ in range(draws)]
    return Spread(statistics.geometric_mean(pairs), percentile(means, 0.025), percentile(means, 0.975))


def differences(plain: Sequence[float], ours: Sequence[float]) -> Spread:
    """Of neighbours."""
    return spread([b - a for a, b in zip(plain, ours, strict=True)])


def turns(ways: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """The figures of each way, by turns. The order is reversed each time: a drift hits all alike."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: 1 if number % 2 == 0 else -1]:
            found[name].append(ways[name]())
    return found


class Done(NamedTuple):
    """stdout of a process that succeeded, and what it and those below it took: seconds of CPU and of the clock,
    and bytes of memory at most."""

    output: str
    cpu: float
    seconds: float
    memory: int


def run(command: Sequence[str], **environ: str) -> Done:
    """Run a process that has to succeed. Its memory counts as no less than that of this process."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    errors: list[str] = []
    reader = threading.Thread(target=lambda: errors.append(process.stderr.read() if process.stderr else ""))
    reader.start()
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    reader.join()
    if process.returncode:
        raise RuntimeError(f"{command[:4]} ended with {process.returncode}: {''.join(errors)[-2000:]}")
    used = usage.ru_utime + usage.ru_stime
    return Done(output, used, time.perf_counter() - start, usage.ru_maxrss * 1024)


def job(program: str, *arguments: object, under: Sequence[str] = (), **environ: str) -> list[dict[str, Any]]:
    """What each rank of a job of two says, one JSON object each."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    script = str(ROOT / "benchmarks" / program)
    output = run([*under, *launcher, script, *map(str, arguments)], **environ).output
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def otel_netmon_run(folder: Path | None) -> list[str]:
    """The command, with files in ``folder`` or as the variables say."""
    output = ["--output", str(folder)] if folder else []
    return [sys.executable, "-m", "otel_netmon.cli", "run", *output, "--"]


def cpu_of_threads() -> dict[str, float]:
    """Seconds of CPU that this process's threads took: the calling one, ours and OpenTelemetry's, others."""
    named = {one.native_id: one.name for one in threading.enumerate()}
    found = {"main": 0.0, "ours": 0.0, "rest": 0.0}
    for path in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it ended
            name = named.get(int(path.name), "")
            ours = name.startswith(("otel-netmon", "Otel"))
            part = "ours" if ours else "main" if int(path.name) == threading.get_native_id() else "rest"
            found[part] += int((path / "schedstat").read_text().split()[0]) / 1e9
    return {**found, "process": time.process_time()}


@contextlib.contextmanager
def sink() -> Iterator[tuple[str, Callable[[], dict[str, dict[str, int]]]]]:
    """A process that takes OTLP over HTTP: its endpoint, and what ends it and says what it received by path."""
    command = [sys.executable, "-m", "benchmarks.sink"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        port = int(process.stdout.readline())

        def received() -> dict[str, dict[str, int]]:
            found: dict[str, dict[str, int]] = json.loads(process.communicate("")[0])
            return found

        try:
            yield f"http://127.0.0.1:{port}", received
        finally:
            if not process.stdin.closed:
                process.stdin.close()
