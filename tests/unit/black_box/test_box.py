"""What a rank keeps in memory that outlives it: there while it may be needed, and nobody else's."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from otel_netmon import config
from otel_netmon.black_box import folder as folders
from otel_netmon.black_box import layout
from otel_netmon.black_box.box import Box, open_own
from otel_netmon.black_box.folder import BoxFolder
from otel_netmon.endings import LastCalls
from otel_netmon.job.roles import RankIdentity
from otel_netmon.records import Heartbeat

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ranks are watched on Linux only")

OPERATIONS = ("all_reduce", "broadcast")


@pytest.fixture(autouse=True)
def base(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    base = tmp_path / "runtime"
    base.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    monkeypatch.delenv(config.BLACK_BOX_DIR, raising=False)
    return base


PROGRAM = textwrap.dedent(
    """
    import os, sys, time
    from otel_netmon.black_box.box import open_own
    from otel_netmon.job.roles import RankIdentity
    from otel_netmon.records import Heartbeat

    box = open_own(["all_reduce", "broadcast"])
    box.update(RankIdentity(3, 1, 8), Heartbeat("r" * 32, step=7, step_age=0.5))
    if "close" in sys.argv:
        box.close()
    if "fork" in sys.argv:
        forked, child = os.pipe()
        if not os.fork():
            os.close(1)
            os.write(child, b"x")
            time.sleep(30)
            os._exit(0)
        os.read(forked, 1)
    print("ready", flush=True)
    time.sleep(30)
    """
)


def rank(folder: BoxFolder, *how: str) -> subprocess.Popen[bytes]:
    """A process with a box, once that is there."""
    environ = {**os.environ, config.BLACK_BOX_DIR: str(folder.path)}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *how], env=environ, stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    return process


def killed(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(timeout=10)
    if process.stdout is not None:
        process.stdout.close()


def test_what_a_killed_process_was_at_is_read_once() -> None:
    environ: dict[str, str] = {}
    folder = BoxFolder(environ)
    assert environ == {config.BLACK_BOX_DIR: str(folder.path)}
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    process = rank(folder)
    assert folder.pids() == {process.pid} and list(folder.left_behind()) == []  # it lives
    killed(process)
    (found,) = folder.left_behind()
    assert found[:6] == (process.pid, "r" * 32, 3, 1, 8, 7) and found.calls == ()
    assert found.step_age == pytest.approx(0.5, abs=0.01)
    assert abs(found.time - time.time_ns()) < 30e9
    assert list(folder.left_behind()) == [] and folder.pids() == frozenset()
    folder.remove()
    assert environ == {} and not folder.path.exists()


def test_one_that_exported_all_leaves_nothing() -> None:
    folder = BoxFolder({})
    process = rank(folder, "close")
    assert folder.pids() == frozenset()
    killed(process)
    assert list(folder.left_behind([process.pid])) == []
    folder.remove()


def test_a_forked_child_does_not_keep_a_box_alive() -> None:
    folder = BoxFolder({})
    process = rank(folder, "fork")
    killed(process)
    (found,) = folder.left_behind()
    assert found.pid == process.pid
    folder.remove()


def test_a_child_uses_the_folder_of_the_process_above_and_does_not_remove_it() -> None:
    environ: dict[str, str] = {}
    above = BoxFolder(environ)
    below = BoxFolder(environ)
    assert below.path == above.path
    below.remove()
    assert above.path.exists() and config.BLACK_BOX_DIR in environ
    above.remove()
    assert not above.path.exists()


def test_folders_of_launchers_that_were_killed_are_removed(base: Path) -> None:
    kept = BoxFolder({})  # its launcher lives
    stale = base / f"{folders.PREFIX}123-gone"
    stale.mkdir(mode=0o700)
    process = rank(kept)
    killed(process)
    (box,) = kept.path.glob("*.box")
    (stale / "5-6.box").write_bytes(box.read_bytes())
    foreign = base / f"{folders.PREFIX}9-open"
    foreign.mkdir(mode=0o755)
    BoxFolder({}).remove()
    assert kept.path.exists() and not stale.exists()
    assert foreign.exists(), "not private, so not ours"
    assert len(list(kept.left_behind())) == 1


def test_there_is_none_without_a_launcher_or_if_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert open_own(OPERATIONS) is None
    monkeypatch.setenv(config.BLACK_BOX_DIR, str(tmp_path / "of another host"))
    assert open_own(OPERATIONS) is None
    folder = BoxFolder({})
    monkeypatch.setenv(config.BLACK_BOX_DIR, str(folder.path))
    assert open_own(OPERATIONS) is None, "nobody outlives a launcher that trains itself"
    folder.path.rename(other := folder.path.with_name(f"{folders.PREFIX}1-x"))
    monkeypatch.setenv(config.BLACK_BOX_DIR, str(other))
    box = open_own(OPERATIONS)
    assert box is not None
    box.close()
    other.chmod(0o755)
    assert open_own(OPERATIONS) is None, "others could read it"
    other.chmod(0o700)
    monkeypatch.setenv("OTEL_NETMON_BLACK_BOX", "off")
    config.current.cache_clear()
    assert open_own(OPERATIONS) is None
    config.current.cache_clear()


def test_what_is_no_box_is_passed_over(tmp_path: Path) -> None:
    folder = BoxFolder({})
    (folder.path / "1-a.box").write_bytes(os.urandom(layout.SIZE))
    (folder.path / "2-b.box").write_bytes(layout.MAGIC)
    (folder.path / "3-c.box").symlink_to(tmp_path)
    os.mkfifo(folder.path / "4-d.box")
    (folder.path / "x.box").write_bytes(b"")
    (folder.path / "5-e.box").write_bytes(layout.MAGIC + bytes(layout.SIZE - len(layout.MAGIC)))
    found = list(folder.left_behind())
    assert [one.pid for one in found] == [0] and found[0].calls == ()


def test_random_bytes_never_raise() -> None:
    for _ in range(300):
        data = bytearray(os.urandom(layout.SIZE))
        data[: len(layout.MAGIC) + 4] = layout.MAGIC + bytes(4)
        found = layout.read(bytes(data))
        assert found is None or isinstance(found, LastCalls)


def test_the_first_groups_keep_their_names(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    box = Box(tmp_path, OPERATIONS)
    for number in range(1, 301):
        box.name_group(number, "ü" * 100 if number == 300 else f"group {number}")
    box.update(RankIdentity(0, 0, 1), Heartbeat())
    names = layout.groups(box.memory[:])
    assert names[1] == "group 1" and names[32] == "group 32" and names[299] == "group 299"
    assert names[300].startswith("ü" * 30) and len(names) == layout.MOST_GROUPS
    box.close()
