"""A launcher tells how its ranks ended, and takes nothing from whoever waits for them. With real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_netmon import config, semconv
from otel_netmon.launcher import children, events, watcher
from otel_netmon.launcher.children import Status
from otel_netmon.launcher.watcher import RankWatcher

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ranks are watched on Linux only")

TORCHRUNS = {"LOCAL_RANK": "1", "WORLD_SIZE": "8", "TORCHELASTIC_RUN_ID": "none"}
SLEEP = "import time; time.sleep(60)"


class Told:
    """Takes log events; nobody is ready for them before there is a provider."""

    def __init__(self) -> None:
        self.events: list[events.Event] = []
        self.is_ready = True

    def ready(self) -> bool:
        return self.is_ready

    def emit(self, name: str, body: str, attributes: dict[str, Any], *, time: int, severity: str) -> None:
        self.events.append(events.Event(name, body, attributes, time, severity))

    def exits(self) -> dict[object, tuple[object, object, str]]:
        """Code, signal and severity by rank."""
        return {
            one.attributes.get(semconv.RANK): (
                one.attributes.get(semconv.EXIT_CODE),
                one.attributes.get(semconv.EXIT_SIGNAL),
                one.severity,
            )
            for one in self.events
            if one.name == semconv.EVENT_EXITED
        }


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Told:
    told = Told()
    monkeypatch.setattr(watcher, "LogEvents", lambda: told)
    monkeypatch.setattr(watcher, "_EVERY", 0.05)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    for name in ("RANK", *TORCHRUNS, config.BLACK_BOX_DIR):
        monkeypatch.delenv(name, raising=False)
    return told


@pytest.fixture
def watching(told: Told) -> Iterator[RankWatcher]:
    one = RankWatcher(lists=True)
    one.start()
    yield one
    one.stop()
    assert config.BLACK_BOX_DIR not in os.environ


_started: list[subprocess.Popen[bytes]] = []


def start(code: str, **environ: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **environ})
    _started.append(process)
    return process


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    for process in _started:
        process.kill()
        process.wait(10)
    _started.clear()


def seen(one: RankWatcher, pid: int) -> None:
    until(lambda: any(rank.pid == pid for rank in one._watched.values()))


def until(what: Callable[[], object], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def test_a_signal_and_an_exit_code(watching: RankWatcher, told: Told) -> None:
    killed = start(SLEEP, RANK="3", **TORCHRUNS)
    exits = start("import sys, time; time.sleep(1); sys.exit(3)", RANK="4", **TORCHRUNS)
    well = start("import time; time.sleep(1)", RANK="5", **TORCHRUNS)
    helper = start(SLEEP)
    seen(watching, killed.pid)
    killed.kill()
    until(lambda: len(told.exits()) == 3)
    assert told.exits() == {3: (None, 9, "WARN"), 4: (3, None, "WARN"), 5: (0, None, "INFO")}
    # Nothing was taken from the launcher.
    assert (killed.wait(5), exits.wait(5), well.wait(5)) == (-9, 3, 0)
    (first,) = (one for one in told.events if one.attributes[semconv.RANK] == 3)
    assert first.body == f"rank 3 (process {killed.pid}) was ended by signal 9"
    assert first.attributes[semconv.LOCAL_RANK] == 1 and first.attributes[semconv.WORLD_SIZE] == 8
    helper.kill()
    helper.wait(5)
    time.sleep(0.2)
    assert len(told.events) == 3


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_launcher_that_is_quicker(monkeypatch: pytest.MonkeyPatch, told: Told, number: int) -> None:
    """It has taken the status; its object still knows it."""
    monkeypatch.setattr(os, "waitid", _only_alive(os.waitid))
    one = RankWatcher(lists=True)
    one.start()
    rank = start(SLEEP, RANK="0", **TORCHRUNS)
    seen(one, rank.pid)
    rank.send_signal(number)
    assert rank.wait(5) == -number
    until(told.exits)
    assert told.exits() == {0: (None, number, "WARN")}
    one.stop()


def test_what_nobody_knows_is_absent(monkeypatch: pytest.MonkeyPatch, told: Told) -> None:
    monkeypatch.setattr(children, "_kept", lambda _: Status())
    monkeypatch.setattr(os, "waitid", _only_alive(os.waitid))
    one = RankWatcher(lists=True)
    one.start()
    rank = start(SLEEP, RANK="0", **TORCHRUNS)
    seen(one, rank.pid)
    rank.kill()
    rank.wait(5)
    until(told.exits)
    assert told.exits() == {0: (None, None, "INFO")}
    assert told.events[0].body == f"rank 0 (process {rank.pid}) ended"
    one.stop()


def _only_alive(original: Any) -> object:
    """``os.waitid`` where another was quicker to take the status of what has ended."""

    def waitid(kind: int, number: int, options: int) -> object:
        found = original(kind, number, options)
        if found is not None:
            raise ChildProcessError
        return found

    return waitid


def test_a_helper_has_the_launchers_own_rank(
    monkeypatch: pytest.MonkeyPatch, watching: RankWatcher, told: Told
) -> None:
    """In Kubernetes ``RANK`` is the number of the node, and in the environment of all that the launcher starts."""
    monkeypatch.setenv("RANK", "1")
    helper = start("import time; time.sleep(0.5)")
    rank = start("import time; time.sleep(0.5)", **TORCHRUNS)
    until(told.exits)
    helper.wait(5)
    rank.wait(5)
    time.sleep(0.3)
    assert [one.attributes[semconv.RANK_PID] for one in told.events] == [rank.pid]


def test_a_rank_that_ends_with_the_launcher_is_told(told: Told) -> None:
    one = RankWatcher(lists=True)
    one.start()
    ended, lives = start(SLEEP, RANK="0", **TORCHRUNS), start(SLEEP, RANK="1", **TORCHRUNS)
    seen(one, ended.pid)
    seen(one, lives.pid)
    ended.kill()
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    one.stop()
    assert told.exits() == {0: (None, 9, "WARN")}
    for process in (ended, lives):
        process.kill()
        process.wait(5)


def test_in_a_rank_children_are_not_listed(told: Told) -> None:
    """A data loader has its rank's environment, and is none."""
    one = RankWatcher(lists=False)
    one.start()
    loader = start("import time; time.sleep(0.3)", RANK="0", **TORCHRUNS)
    loader.wait(5)
    time.sleep(0.3)
    one.stop()
    assert told.events == []


def test_it_does_nothing_where_nobody_takes_events(told: Told) -> None:
    told.is_ready = False
    one = RankWatcher(lists=True)
    one.start()
    assert one._thread is None and config.BLACK_BOX_DIR not in os.environ
    one.stop()


def test_without_pidfd_open_of_pythons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    process = start(SLEEP)
    fd = children.watch(process.pid)
    assert children.is_child(fd) and children.status(fd, process.pid) is None
    process.kill()
    until(lambda: children.status(fd, process.pid))
    assert children.status(fd, process.pid) == Status(None, 9)
    process.wait(5)
    os.close(fd)
    with pytest.raises(ProcessLookupError):
        children.watch(process.pid)


def test_a_forked_child_has_nothing_of_it(watching: RankWatcher) -> None:
    rank = start(SLEEP, RANK="0", **TORCHRUNS)
    seen(watching, rank.pid)
    fds = [*watching._watched, watching._woken, watching._wake]
    pid = os.fork()
    if pid == 0:
        left = [fd for fd in fds if Path(f"/proc/self/fd/{fd}").exists()]
        os._exit(0 if not left and not watching._watched and watching._thread is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert watching._watched, "the parent goes on"
    rank.kill()
    rank.wait(5)
