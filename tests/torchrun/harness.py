"""Start a program on several ranks and read back what each rank wrote."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from torch.distributed import ProcessGroup

from otel_netmon.capture.native import loader

PROGRAMS = Path(__file__).parent / "programs"
ROOT = Path(__file__).parents[2]

_NO_HOOKS = "this torch has no process-group hooks: make test VENV=.venv214 TORCH=torch==2.14.1"
_NOT_BUILT = "the native capture is not built for this torch: make native VENV=.venv214 TORCH=torch==2.14.1"
SEAMS = (
    "dispatcher",
    pytest.param(
        "hooks",
        marks=pytest.mark.skipif(not hasattr(ProcessGroup, "register_pre_hook"), reason=_NO_HOOKS),
    ),
    pytest.param("native", marks=pytest.mark.skipif(loader.find() is None, reason=_NOT_BUILT)),
)
"""Values of ``OTEL_NETMON_CAPTURE`` to parametrize a test with: each backend that this torch may have."""


@dataclass(frozen=True)
class Run:
    """A finished job: torchrun's exit code, all it printed, and the JSON of each rank."""

    code: int
    output: str
    ranks: list[Any]


def torchrun(
    program: str,
    folder: Path,
    *arguments: str,
    ranks: int = 2,
    timeout: float = 120,
    options: tuple[str, ...] = (),
    **environ: str,
) -> Run:
    """Run ``programs/<program>`` with ``folder`` as its first argument; a rank may write ``folder/<rank>.json``.

    At the time limit the whole tree is killed: torchrun's ranks are in sessions of their own.
    """
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"),
        *options,
        *(str(PROGRAMS / program), str(folder), *arguments),
    ]
    process = subprocess.Popen(
        command,
        env=_environment(environ),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    except BaseException:
        _kill(process)
        raise
    return _finished(process.returncode, output, folder)


def forked(
    program: str, folder: Path, *arguments: str, ranks: int = 2, timeout: float = 120, **environ: str
) -> Run:
    """The same from ranks that are forked with torch imported already, which is most of the time of a short job.

    For what is about the ranks' collectives, not about how processes start, and not before torch is there.
    """
    nursery = _nursery()
    assert nursery.stdin is not None and nursery.stdout is not None
    output = folder / "output.txt"
    command = [str(PROGRAMS / program), str(folder), *arguments]
    job = {"command": command, "ranks": ranks, "environ": _environment(environ), "output": str(output)}
    try:
        nursery.stdin.write(json.dumps(job) + "\n")
        nursery.stdin.flush()
        if not select.select([nursery.stdout], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(command, timeout, output.read_text())
        code = int(nursery.stdout.readline())
    except BaseException:
        _nursery.cache_clear()
        _kill(nursery)
        raise
    return _finished(code, output.read_text(), folder)


def _environment(more: dict[str, str]) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "TORCH_", "MASTER_"))}
    return {**clean, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TORCH_FR_BUFFER_SIZE": "20000", **more}


@functools.cache
def _nursery() -> subprocess.Popen[str]:
    """Where this process's ``forked`` ranks come from."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.torchrun.nursery"],
        env=_environment({}), cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    atexit.register(_kill, process)
    return process


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        for member in (root := psutil.Process(process.pid), *root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
    process.wait()


def _finished(code: int, output: str, folder: Path) -> Run:
    files = sorted(folder.glob("[0-9]*.json"), key=lambda file: int(file.stem))
    return Run(code, output, [json.loads(file.read_text()) for file in files])
