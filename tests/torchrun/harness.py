"""Start a program on several ranks under torchrun and read back what each rank wrote."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from torch.distributed import ProcessGroup

PROGRAMS = Path(__file__).parent / "programs"
ROOT = Path(__file__).parents[2]

_NO_HOOKS = "this torch has no process-group hooks: make test VENV=.venv214 TORCH=torch==2.14.1"
SEAMS = (
    "dispatcher",
    pytest.param(
        "hooks",
        marks=pytest.mark.skipif(not hasattr(ProcessGroup, "register_pre_hook"), reason=_NO_HOOKS),
    ),
)
"""Values of ``OTEL_NETMON_CAPTURE`` to parametrize a test with: each seam that this torch may have."""


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
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "TORCH_", "MASTER_"))}
    env.update({"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TORCH_FR_BUFFER_SIZE": "20000"}, **environ)
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"),
        *options,
        *(str(PROGRAMS / program), str(folder), *arguments),
    ]
    process = subprocess.Popen(
        command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    except BaseException:
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        for member in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        process.communicate()
        raise
    files = sorted(folder.glob("[0-9]*.json"), key=lambda file: int(file.stem))
    return Run(process.returncode, output, [json.loads(file.read_text()) for file in files])
