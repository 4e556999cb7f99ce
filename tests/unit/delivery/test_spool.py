"""Requests on disk: in order, bounded, not read by others, and whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_netmon.delivery import spool
from otel_netmon.delivery.segment import Segment
from otel_netmon.delivery.spool import Spool, SpoolError, open_folder, orphans

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200"))


class Kept:
    """A spool, and the items it said were dropped."""

    def __init__(self, folder: Path, max_bytes: int = 1 << 30) -> None:
        self.dropped: list[int] = []
        self.spool = Spool(folder, "traces", max_bytes, lambda _, items: self.dropped.append(items))

    def drain(self) -> list[bytes]:
        found = []
        while (record := self.spool.first()) is not None:
            found.append(record.data)
            self.spool.delivered(record)
        return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def test_first_in_first_out_over_many_segments_and_nothing_is_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "_SEGMENT", 1000)
    kept = Kept(folder)
    requests = [bytes([number]) * 300 for number in range(20)]
    for request in requests:
        assert kept.spool.append(request, 1)
    assert len(list(folder.iterdir())) > 3
    assert kept.drain() == requests
    assert list(folder.iterdir()) == [] and kept.spool.size == 0


def test_nobody_else_reads_or_writes_there(folder: Path) -> None:
    before = os.umask(0)
    try:
        Kept(folder).spool.append(b"secret", 1)
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.row("the spool's folder read-only, another user's, a link, open to others")
def test_a_folder_that_is_not_ours_alone_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "file").write_text("")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    for name, why in (("link", "a link"), ("file", "File exists"), ("open", "can be written by others")):
        with pytest.raises(SpoolError, match=why):
            open_folder(tmp_path / name)
    if os.geteuid() == 0:
        (tmp_path / "foreign").mkdir(mode=0o700)
        os.chown(tmp_path / "foreign", 12345, 12345)
        with pytest.raises(SpoolError, match="belongs to user 12345"):
            open_folder(tmp_path / "foreign")
    (tmp_path / "mine").mkdir(mode=0o700)
    os.symlink(tmp_path / "file", tmp_path / "mine" / "traces-x-1-a-000001.spool")
    assert Segment.adopt(tmp_path / "mine" / "traces-x-1-a-000001.spool", print) is None


@pytest.mark.row("the spool at its limit, the disk full")
def test_at_its_limit_the_oldest_go_and_are_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_SEGMENT", 1000)
    kept = Kept(folder, 5000)
    for number in range(40):
        assert kept.spool.append(bytes([number]) * 300, 10)
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 5000
    left = kept.drain()
    assert left == [bytes([number]) * 300 for number in range(40 - len(left), 40)]
    assert sum(kept.dropped) == 10 * (40 - len(left)) and kept.dropped
    assert not kept.spool.append(bytes(6000), 1)  # larger than all there is room for


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.row("the spool at its limit, the disk full")
def test_a_full_disk_leaves_whole_records(tmp_path: Path) -> None:
    """A file system of 64 KiB, in a mount namespace of its own."""
    program = (
        "import sys; from pathlib import Path; from otel_netmon.delivery.spool import Spool\n"
        "lost = []; s = Spool(Path(sys.argv[1]) / 'spool', 'traces', 1 << 30, lambda _, n: lost.append(n))\n"
        "kept = [s.append(bytes([n]) * 5000, 1) is not None for n in range(40)]\n"
        "n = 0\n"
        "while (r := s.first()) is not None:\n"
        "    n += 1; assert len(set(r.data)) == 1 and len(r.data) == 5000; s.delivered(r)\n"
        "print(sum(kept), n, sum(lost))"
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c",
         'mount -t tmpfs -o size=64k tmpfs "$1" && exec "$2" -c "$3" "$1"', "sh",
         str(tmp_path), sys.executable, program],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    if "permission denied" in done.stderr or "not permitted" in done.stderr:
        pytest.skip("this container may not mount")
    assert done.returncode == 0, done.stderr
    kept, read, lost = map(int, done.stdout.split())
    assert 0 < read < 40
    assert kept == read + lost


@pytest.mark.row("the spool's folder read-only, another user's, a link, open to others")
def test_what_cannot_be_written_is_an_error_that_names_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    kept = Kept(folder)
    kept.spool.append(b"one", 1)
    monkeypatch.setattr("otel_netmon.delivery.spool.os.pwrite", refuse)
    with pytest.raises(SpoolError, match=rf"{folder}: Read-only"):
        kept.spool.append(b"two", 1)


def test_an_orphan_is_taken_over_and_a_living_writers_segment_is_not(folder: Path) -> None:
    alive, dead, heir = Kept(folder), Kept(folder), Kept(folder)
    alive.spool.append(b"alive", 1)
    dead.spool.append(b"one", 1)
    dead.spool.append(b"two", 1)
    first = dead.spool.first()
    assert first is not None
    dead.spool.delivered(first)  # noted on disk: the heir does not send it again
    dead.spool.close()
    heir.spool.adopt(60)
    assert heir.drain() == [b"two"]
    assert alive.drain() == [b"alive"]


def test_what_is_too_old_is_dropped_and_counted(folder: Path) -> None:
    dead, heir = Kept(folder), Kept(folder)
    dead.spool.append(b"one", 7)
    dead.spool.close()
    (file,) = folder.iterdir()
    os.utime(file, (1, 1))
    heir.spool.adopt(60)
    assert heir.drain() == [] and heir.dropped == [7] and orphans(folder, "traces") == []


def written(folder: Path, requests: list[bytes]) -> Path:
    kept = Kept(folder)
    for request in requests:
        kept.spool.append(request, 1)
    kept.spool.close()
    (file,) = folder.iterdir()
    return file


def adopted(file: Path) -> list[bytes]:
    segment = Segment.adopt(file, lambda _: None)
    if segment is None:
        return []
    found = []
    while (record := segment.first()) is not None:
        found.append(record.data)
        segment.delivered(record)
    segment.close(remove=False)
    return found


@pytest.mark.row("damaged or hostile files in the spool")
def test_a_torn_tail_is_left_out(folder: Path) -> None:
    requests = [b"a" * 100, b"b" * 100, b"c" * 100]
    file = written(folder, requests)
    whole = file.read_bytes()
    for cut in range(len(whole)):
        file.write_bytes(whole[:cut])
        found = adopted(file)
        assert found == requests[: len(found)]
    assert len(found) == 2


@given(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6), st.binary(max_size=100))
@settings(max_examples=EXAMPLES, deadline=None)
@pytest.mark.row("damaged or hostile files in the spool")
def test_no_damage_gives_a_request_that_was_not_written(changes: list[tuple[int, int]], tail: bytes) -> None:
    """Bytes changed anywhere, and noise behind: what is read was written, and nothing else is raised."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        requests = [b"a" * 100, b"b" * 100, b"c" * 100]
        file = written(Path(name) / "spool", requests)
        data = bytearray(file.read_bytes())
        for place, value in changes:
            if place < len(data):
                data[place] = value
        file.write_bytes(bytes(data) + tail)
        for record in adopted(file):
            assert record in requests


def test_a_forked_child_leaves_the_parents_files_alone(folder: Path) -> None:
    kept = Kept(folder)
    kept.spool.append(b"one", 1)
    child = os.fork()
    if child == 0:
        kept.spool.disown()
        os._exit(0 if kept.spool.first() is None else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert Segment.adopt(next(folder.iterdir()), print) is None  # the parent's lock holds
    assert kept.drain() == [b"one"]
