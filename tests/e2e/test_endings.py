"""Ranks that end badly: their launcher tells how, and what they were at, and who is to blame is said with it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from otel_netmon.endings import LastCalls, RankExit
from tests.installed import ROOT, python_path
from tests.torchrun.harness import SEAMS
from tests.wrote import wrote

pytest.importorskip("torch", reason="needs torch: make test installs it")
pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ranks are watched on Linux only")

PROGRAM = str(ROOT / "tests/e2e/programs/ends.py")
OTEL_NETMON = (sys.executable, "-m", "otel_netmon.cli")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=4", PROGRAM)


def run(folder: Path, command: tuple[str, ...], **more: str) -> tuple[Path, list[dict[str, Any]], str]:
    """The folder with the telemetry of a job that fails, the findings in it, and what was printed.

    On a busy machine there may be a second finding: a rank that gets no CPU.
    """
    unwanted = ("OTEL_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_", "TORCH")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    native = os.environ.get("OTEL_NETMON_NATIVE_DIR")
    environ |= {"OTEL_NETMON_NATIVE_DIR": native} if native else {}
    (folder / "runtime").mkdir(mode=0o700)
    environ |= {"PYTHONPATH": python_path(folder / "site") or str(ROOT), "OMP_NUM_THREADS": "1"}
    environ |= {"XDG_RUNTIME_DIR": str(folder / "runtime"), **more}
    process = subprocess.Popen(
        [*OTEL_NETMON, "run", "--output", str(folder / "out"), "--", *command],
        env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        printed, _ = process.communicate(timeout=150)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    assert process.returncode != 0, printed
    assert list((folder / "runtime").iterdir()) == [], "a folder with last collectives was left"
    done = subprocess.run(
        [*OTEL_NETMON, "diagnose", "--json", str(folder / "out")], env=environ, capture_output=True, timeout=60
    )
    (diagnosis,) = json.loads(done.stdout)["runs"]
    return folder / "out", diagnosis["findings"], printed


def exits_in(folder: Path) -> dict[int | None, RankExit]:
    return {one.rank: one for _, one in wrote(folder, RankExit)}


@pytest.mark.row("a rank is killed: its launcher says by what, and what it was at")
@pytest.mark.parametrize(
    ("how", "code", "number", "words"),
    [
        ("kill", None, signal.SIGKILL, "Rank 2 was ended by signal 9 (SIGKILL)"),
        ("exit", 3, None, "Rank 2 ended with exit code 3"),
        ("raise", 1, None, "Rank 2 ended with exit code 1"),
    ],
)
def test_a_rank_that_ends_badly(
    tmp_path: Path, how: str, code: int | None, number: int | None, words: str
) -> None:
    folder, findings, printed = run(tmp_path, (*TORCHRUN, how))
    exits = exits_in(folder)
    assert sorted(exits, key=str) == [0, 1, 2, 3]
    assert (exits[2].code, exits[2].signal) == (code, number)
    assert (exits[2].local_rank, exits[2].world_size) == (2, 4)
    assert all(bool(one.code or one.signal) for one in exits.values())
    assert (findings[0]["kind"], findings[0]["ranks"]) == ("dead_rank", [2]), findings
    assert findings[0]["sentence"].startswith(words) and words in printed.replace("\n  ", " ")

    left = {one.rank: one for _, one in wrote(folder, LastCalls)}
    if how == "raise":  # it exported all itself
        assert 2 not in left
        return
    last = left[2]
    assert last.pid == exits[2].pid and len(last.run_id or "") == 32 and last.world_size == 4
    # The last two of 40, which the process took with it.
    assert [call.sequence for call in last.calls] == list(range(1, 41))
    assert [(call.operation, call.group, call.size) for call in last.calls[-2:]] == [
        ("all_reduce", "0", 400),
        ("all_reduce", "0", 40),
    ]
    assert last.calls[0].duration is not None and all(call.error is None for call in last.calls)


@pytest.mark.parametrize("backend", SEAMS)
def test_gloo_ends_an_innocent_rank_and_the_culprit_is_named(tmp_path: Path, backend: str) -> None:
    folder, findings, _ = run(tmp_path, (*TORCHRUN, "size"), OTEL_NETMON_CAPTURE=backend)
    aborted = [one.rank for one in exits_in(folder).values() if one.signal == signal.SIGABRT]
    assert aborted and 2 not in aborted, "another version of gloo: this test has lost its case"
    assert (findings[0]["kind"], findings[0]["ranks"]) == ("desynchronised_rank", [2]), findings
    left = {one.rank: one for _, one in wrote(folder, LastCalls)}
    assert (left[aborted[0]].calls[-1].sequence, left[aborted[0]].calls[-1].size) == (41, 28)


def test_ranks_of_spawn_are_known_by_what_they_keep(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder, findings, _ = run(tmp_path, (sys.executable, PROGRAM, "kill", "spawn", str(port)))
    exits = {one.pid: one for _, one in wrote(folder, RankExit)}
    (last,) = (one for _, one in wrote(folder, LastCalls) if one.rank == 2)
    assert (exits[last.pid].rank, exits[last.pid].signal) == (2, signal.SIGKILL)
    assert findings[0]["ranks"] == [2] and "signal 9" in findings[0]["sentence"]


def test_where_it_is_off_ends_are_told_alone(tmp_path: Path) -> None:
    folder, findings, _ = run(tmp_path, (*TORCHRUN, "kill"), OTEL_NETMON_BLACK_BOX="off")
    assert exits_in(folder)[2].signal == signal.SIGKILL and not wrote(folder, LastCalls)
    assert (findings[0]["kind"], findings[0]["ranks"]) == ("dead_rank", [2])


def test_without_an_instrumented_launcher_run_finds_what_was_left(tmp_path: Path) -> None:
    """As under ``mpirun``: what starts the ranks is no Python of ours."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one = f"RANK=$rank LOCAL_RANK=$rank {sys.executable} {PROGRAM} kill"
    shell = f"for rank in 0 1 2 3; do {one} & done; wait; exit 1"
    more = {"WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    folder, findings, _ = run(tmp_path, ("bash", "-c", shell), **more)
    assert not wrote(folder, RankExit)
    assert any(one.rank == 2 and one.calls[-1].sequence == 40 for _, one in wrote(folder, LastCalls))
    assert (findings[0]["kind"], findings[0]["ranks"]) == ("dead_rank", [2]), findings


def test_a_rank_that_run_starts_itself(tmp_path: Path) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    environ = {**os.environ, "RANK": "5", "WORLD_SIZE": "8", "XDG_RUNTIME_DIR": str(tmp_path)}
    environ["PYTHONPATH"] = python_path(tmp_path / "site") or str(ROOT)
    done = subprocess.run(
        [*OTEL_NETMON, "run", "--output", str(tmp_path / "out"), "--", sys.executable, "-c", code],
        env=environ, capture_output=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == -signal.SIGSEGV
    ((_, end),) = wrote(tmp_path / "out", RankExit, "logs-*-run-*.jsonl")
    assert (end.rank, end.world_size, end.signal, end.code) == (5, 8, signal.SIGSEGV, None)
