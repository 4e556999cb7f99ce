"""`otel-netmon live` beside a real torchrun, in a real terminal and in a pipe."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e import tmux
from tests.installed import ROOT, python_path

pytest.importorskip("torch")

OURS = (sys.executable, "-m", "otel_netmon.cli")
PROGRAM = Path(__file__).parent / "programs" / "steady_steps.py"
needs_tmux = pytest.mark.skipif(bool(tmux.MISSING), reason=tmux.MISSING or "it is there")


def environment(folder: Path) -> dict[str, str]:
    unwanted = ("OTEL_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_", "TORCH")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return {**environ, "PYTHONPATH": python_path(folder / "site") or str(ROOT), "OMP_NUM_THREADS": "1"}


@contextlib.contextmanager
def job(
    folder: Path, steps: int, seconds: float = 0.1, late: int = -1, hangs: int = -1
) -> Iterator[subprocess.Popen[str]]:
    """Two ranks under `otel-netmon run`, which writes below ``folder``; killed at the end if they still run."""
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    words = (str(PROGRAM), str(steps), str(seconds), str(late), str(hangs))
    process = subprocess.Popen(
        [*OURS, "run", "--", *torchrun, *words],
        cwd=folder,
        env={**environment(folder), "OTEL_NETMON_HEARTBEAT": "2"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        end(process)
        process.communicate()


def end(process: subprocess.Popen[str]) -> None:
    """Kill it and all below it, ranks that are in sessions of their own among them."""
    if process.poll() is None:
        top = psutil.Process(process.pid)
        for member in [*top.children(recursive=True), top]:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short name, for sockets."""
    with tempfile.TemporaryDirectory(prefix="onm") as name:
        yield Path(name)


def watch(pane: tmux.Pane, folder: Path) -> None:
    path = environment(folder)["PYTHONPATH"]
    pane.start(["env", "-C", str(folder), f"PYTHONPATH={path}", "LANG=C.UTF-8", *OURS, "live"])


def age_in(screen: str) -> float:
    found = re.search(r"data ([\d.]+) s old", screen)
    return float(found[1]) if found else float("inf")


@needs_tmux
def test_in_a_terminal_it_follows_a_run_to_its_end(tmp_path: Path, short: Path) -> None:
    with job(tmp_path, 150, late=1) as process, tmux.pane(short) as pane:
        before = pane.settings()
        until_there_are_files(tmp_path)
        watch(pane, tmp_path)
        pane.wait_for(lambda text: "(last 60)" in text and "Rank 1 comes" in text, 60)
        assert pane.alternate() and pane.settings() != before
        ages = []
        for _ in range(20):
            ages.append(age_in(pane.text()))
            time.sleep(0.2)
        assert sorted(ages)[len(ages) // 2] <= 3.0  # of a machine that does other work, too
        screen = pane.text()
        first, second = re.findall(r"^ +([01])  \S+ +([\d.]+ m?s|0 s) ", screen, re.MULTILINE)
        assert first[0] == "1" and second[0] == "0"  # the worst first
        assert process.poll() is None
        screen = pane.wait_for("it ended with 0", 60)
        assert "the run is over" in screen and "steps       150" in screen and "Rank 1 comes" in screen
        assert not pane.alternate() and pane.settings() == before
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0 and sorted(out.splitlines()) == ["rank 0 is done", "rank 1 is done"]
        assert f"otel-netmon live {tmp_path}/otel-netmon-runs/" in err.splitlines()[0]


@needs_tmux
def test_keys_several_viewers_and_a_terminal_that_changes_its_size(tmp_path: Path, short: Path) -> None:
    (short / "2").mkdir()
    with job(tmp_path, 400), tmux.pane(short) as pane, tmux.pane(short / "2", (60, 12)) as other:
        before = pane.settings()
        until_there_are_files(tmp_path)
        for each in (pane, other):
            watch(each, tmp_path)
            each.wait_for(lambda text: text.startswith("step "), 60)
        other.resize(100, 20)
        other.wait_for("? help")
        pane.press("?")
        pane.wait_for("the run goes on")
        pane.press("?")
        pane.wait_for(lambda text: text.startswith("step "))
        pane.press("p")
        paused = pane.wait_for("PAUSED").splitlines()[0]
        time.sleep(2.5)
        assert pane.text().splitlines()[0] == paused
        pane.press("p")
        pane.wait_for(lambda text: text.splitlines()[0] != paused)
        pane.press("Down", "Down", "Up", "Home", "x")
        pane.press("q")
        pane.wait_for("it ended with 0")
        assert pane.settings() == before and not pane.alternate()
        assert other.alternate()  # the other one goes on
        watch(pane, tmp_path)  # and again
        pane.wait_for(lambda text: text.startswith("step "), 30)


@needs_tmux
@pytest.mark.parametrize(("how", "code"), [("C-c", 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_however_it_ends_the_terminal_is_as_before(
    how: str | signal.Signals, code: int, tmp_path: Path, short: Path
) -> None:
    (tmp_path / "otel-netmon-runs" / "one").mkdir(parents=True)
    with tmux.pane(short) as pane:
        before = pane.settings()
        watch(pane, tmp_path)
        pane.wait_for("no step has ended so far")
        assert pane.alternate() and pane.settings() != before
        if isinstance(how, str):
            pane.press(how)
        else:
            pids = subprocess.run(["pgrep", "-f", "otel_netmon.cli live$"], capture_output=True, text=True).stdout
            ours = [pid for pid in pids.split() if os.readlink(f"/proc/{pid}/cwd") == str(tmp_path)]
            for pid in ours:
                os.kill(int(pid), how)
        pane.wait_for(f"it ended with {code}")
        assert pane.settings() == before and not pane.alternate()


def test_in_a_pipe_it_says_a_line_now_and_then_and_the_verdict_at_the_end(tmp_path: Path) -> None:
    with job(tmp_path, 200, late=1) as process:
        until_there_are_files(tmp_path)
        (folder,) = (tmp_path / "otel-netmon-runs").iterdir()
        done = subprocess.run(
            [*OURS, "live", str(folder)], env=environment(tmp_path), capture_output=True, text=True, timeout=120
        )
        assert process.wait(30) == 0
    lines = done.stdout.splitlines()
    told = [line for line in lines if re.match(r"\d\d:\d\d:\d\d ", line)]
    assert 2 <= len(told) <= 6 and any("Rank 1 comes" in line for line in told), done.stdout
    assert all(age_in(line) <= 3.0 for line in told if "median" in line and " data " in line)
    assert "the run is over" in lines and done.returncode == 0
    assert not any("\x1b" in line for line in lines)


def test_calls_that_stall_are_shown_while_they_do(tmp_path: Path) -> None:
    with job(tmp_path, 30, hangs=1):
        until_there_are_files(tmp_path)
        command = [*OURS, "live", str(next((tmp_path / "otel-netmon-runs").iterdir()))]
        with subprocess.Popen(command, env=environment(tmp_path), stdout=subprocess.PIPE, text=True) as viewer:
            assert viewer.stdout is not None
            for line in viewer.stdout:
                if "rank 0 has been in all_reduce for" in line:
                    break
            viewer.terminate()
        assert "rank 0 has been in all_reduce for" in line


def test_a_job_that_is_killed_ends_the_view_too(tmp_path: Path) -> None:
    with job(tmp_path, 1000) as process:
        until_there_are_files(tmp_path)
        command = [*OURS, "live", str(next((tmp_path / "otel-netmon-runs").iterdir()))]
        with subprocess.Popen(command, env=environment(tmp_path), stdout=subprocess.PIPE, text=True) as viewer:
            assert viewer.stdout is not None
            while "median" not in viewer.stdout.readline():
                assert viewer.poll() is None
            end(process)
            since = time.monotonic()
            rest = viewer.stdout.read()
        assert time.monotonic() - since < 20  # its processes are gone: no need to wait for three heartbeats
        assert "the run is over" in rest and viewer.returncode == 0


def test_files_are_not_touched(tmp_path: Path) -> None:
    with job(tmp_path, 30):
        until_there_are_files(tmp_path)
        (folder,) = (tmp_path / "otel-netmon-runs").iterdir()
        done = subprocess.run(
            [*OURS, "live", str(folder)], env=environment(tmp_path), capture_output=True, timeout=90
        )
    assert done.returncode == 0
    names = {path.name for path in folder.iterdir()} - {"report.html"}
    assert names and all(re.match(r"(traces|metrics|logs)-", name) for name in names)


def test_without_a_run_one_sentence_says_so(tmp_path: Path) -> None:
    for words in (["live"], ["live", str(tmp_path / "none")]):
        done = subprocess.run(
            [*OURS, *words], cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 2 and done.stderr.count("\n") == 1


def until_there_are_files(folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not list((folder / "otel-netmon-runs").glob("*/*.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
