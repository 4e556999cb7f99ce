"""One run of a case: the telemetry of a real training, and ``truth.json`` beside it."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.installed import python_path

from .catalogue import Case
from .lab import PROGRAMS, Lab, lab

PORT = 29400
SETTINGS = {"OTEL_NETMON_INTERVAL": "1", "OTEL_NETMON_STALL_AFTER": "3", "OTEL_NETMON_HEARTBEAT": "2"}
STARTS_WITHIN = 90.0
"""Seconds until the first step."""
TIMEOUT = 10.0
"""Of the process group, in seconds."""


@dataclass
class _Run:
    """What the ranks said."""

    said: queue.Queue[tuple[int, dict[str, Any] | None]] = field(default_factory=queue.Queue)
    pids: dict[int, int] = field(default_factory=dict)
    steps: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    errors: dict[int, list[Any]] = field(default_factory=lambda: defaultdict(list))
    ended: dict[int, int] = field(default_factory=dict)
    """When a rank's output closed."""
    onset: int | None = None
    terminated: list[int] = field(default_factory=list)
    killed: list[int] = field(default_factory=list)

    def listen(self, rank: int, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with suppress(ValueError):
                said = json.loads(line)
                if isinstance(said, dict):
                    self.said.put((rank, said))
        self.said.put((rank, None))

    def take(self, timeout: float) -> tuple[int, dict[str, Any]] | None:
        """The next thing that a rank said; ``None``: nothing, or that it ended."""
        try:
            rank, said = self.said.get(timeout=timeout)
        except queue.Empty:
            return None
        if said is None:
            self.ended[rank] = time.time_ns()
            return None
        if "pid" in said:
            self.pids[rank] = said["pid"]
        if "step" in said:
            self.steps[rank] = said["step"] + 1
        if "error" in said:
            self.errors[rank].append([*said["error"], said["at"]])
        if "onset" in said and self.onset is None:
            self.onset = said["at"]
        return rank, said


def record(case: Case, culprit: int, folder: Path) -> None:
    """Run it, and leave ``telemetry/``, ``arrivals.jsonl``, ``truth.json`` and ``logs/`` in ``folder``."""
    (folder / "logs").mkdir(parents=True)
    (folder / "telemetry").mkdir()
    began = time.time_ns()
    with TemporaryDirectory(prefix="faults") as scratch, lab(case.hosts, Path(scratch), case.link) as made:
        run = _Run()
        loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(case.busy_loops)]
        watcher = _Arrivals([host.folder / "telemetry" for host in made.hosts], folder / "arrivals.jsonl")
        watcher.start()
        try:
            ranks = _start(case, culprit, made, folder, run)
            _drive(case, culprit, made, ranks, run)
            codes = {rank: _code(process) for rank, process in ranks.items()}
        finally:
            for loop in loops:
                loop.kill()
                loop.wait()
            watcher.stop()
        for host in made.hosts:
            for path in sorted((host.folder / "telemetry").glob("*")):
                shutil.move(path, folder / "telemetry" / path.name)
    truth = _truth(case, culprit, run, codes, began)
    (folder / "truth.json").write_text(json.dumps(truth, indent=1))


def _start(case: Case, culprit: int, made: Lab, folder: Path, run: _Run) -> dict[int, subprocess.Popen[str]]:
    faults = [{"from": case.from_step, **fault} for fault in case.inside(culprit)]
    job = {"timeout": TIMEOUT, **case.job, "faults": faults}
    size = case.hosts * case.per_host
    if case.outside is not None and case.from_step == 0:
        case.outside(made, culprit)
        run.onset = time.time_ns()
    ranks = {}
    paths = [str(Path.cwd()), python_path(made.folder / "installed"), os.environ.get("PYTHONPATH", "")]
    for rank in range(size):
        host = made.hosts[rank // case.per_host]
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "LAB_"))},
            **SETTINGS, **case.env, "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "MASTER_ADDR": made.hosts[0].net.address, "MASTER_PORT": str(PORT), "GLOO_SOCKET_IFNAME": host.net.nic,
            "RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank % case.per_host),
            "LOCAL_WORLD_SIZE": str(case.per_host), "GROUP_RANK": str(rank // case.per_host),
            "OMP_NUM_THREADS": "1", "LAB_JOB": json.dumps(job), "LAB_SCRATCH": str(made.folder),
        }  # fmt: skip
        output = host.folder / "telemetry"
        command = (sys.executable, "-m", "otel_netmon.cli", "run", "--output", str(output), "--")
        process = host.start(
            *command, sys.executable, str(PROGRAMS / "job.py"), env=env, log=folder / "logs" / f"rank{rank}.log"
        )
        threading.Thread(target=run.listen, args=(rank, process), daemon=True).start()
        ranks[rank] = process
    return ranks


def _drive(case: Case, culprit: int, made: Lab, ranks: dict[int, subprocess.Popen[str]], run: _Run) -> None:
    """Make the fault when its step begins, and wait for the end."""
    waits_for = case.outside if case.from_step else None
    watched = culprit * case.per_host if len(case.culprits(culprit)) == 1 else 0
    deadline = time.monotonic() + STARTS_WITHIN
    while len(run.ended) < len(ranks) and time.monotonic() < deadline:
        taken = run.take(0.5)
        if taken is None:
            continue
        rank, said = taken
        host = made.hosts[rank // case.per_host]
        if "pid" in said:
            host.pids.append(said["pid"])
        if "step" in said:
            deadline = time.monotonic() + TIMEOUT + 5
            if waits_for is not None and rank == watched and said["step"] >= case.from_step:
                run.onset = min(run.onset or said["at"], time.time_ns())
                waits_for(made, culprit)
                waits_for = None
    _end(ranks, run)


def _end(ranks: dict[int, subprocess.Popen[str]], run: _Run) -> None:
    """What does not end by itself is ended as launchers do."""
    for number, ended, seconds in ((signal.SIGTERM, run.terminated, 6.0), (signal.SIGKILL, run.killed, 3.0)):
        left = [rank for rank in ranks if rank not in run.ended]
        for rank in left:
            with suppress(OSError, KeyError):
                os.kill(run.pids[rank], number)
                ended.append(rank)
        deadline = time.monotonic() + seconds
        while len(run.ended) < len(ranks) and left and time.monotonic() < deadline:
            run.take(0.2)


def _code(process: subprocess.Popen[str]) -> int | None:
    try:
        return process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        return None


def _truth(case: Case, culprit: int, run: _Run, codes: dict[int, int | None], began: int) -> dict[str, Any]:
    import torch

    def hosts(first: int, count: int) -> list[str]:
        return sorted({f"lab-h{rank // case.per_host}" for rank in range(first, first + count)})

    culprits = [
        {
            "kind": each.kind,
            "ranks": list(range(each.rank, each.rank + each.hosts_ranks)),
            "hosts": hosts(each.rank, each.hosts_ranks),
            "direction": each.direction,
        }
        for each in case.culprits(culprit)
    ]
    return {
        "name": case.name, "how": case.how, "culprits": culprits,
        "tolerates": [list(each) for each in case.tolerates],
        "from_step": case.from_step if culprits else None, "onset_ns": run.onset if culprits else None,
        "per_host": case.per_host, "rc": codes, "steps": dict(run.steps), "errors": dict(run.errors),
        "ended_ns": run.ended, "sigterm_by_lab": run.terminated, "killed_by_lab": run.killed,
        "env": dict(case.env), "job": dict(case.job), "torch": torch.__version__, "began_ns": began,
        "wall_s": round((time.time_ns() - began) / 1e9, 1), "load": os.getloadavg(),
    }  # fmt: skip


class _Arrivals(threading.Thread):
    """Takes down how long each file was at which time: what a reader could have known then."""

    def __init__(self, folders: list[Path], path: Path) -> None:
        super().__init__(daemon=True)
        self._folders = folders
        self._path = path
        self._ended = threading.Event()
        self._sizes: dict[str, int] = {}

    def run(self) -> None:
        with self._path.open("w") as lines:
            while True:
                is_last = self._ended.wait(0.2)
                now = time.time_ns()
                for path in (path for folder in self._folders if folder.is_dir() for path in folder.iterdir()):
                    with suppress(OSError):
                        size = path.stat().st_size
                        if size != self._sizes.get(path.name):
                            self._sizes[path.name] = size
                            lines.write(json.dumps([now, path.name, size]) + "\n")
                if is_last:
                    return

    def stop(self) -> None:
        self._ended.set()
        self.join()
