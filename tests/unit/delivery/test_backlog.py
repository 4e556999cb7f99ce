"""What was put is delivered, counted as lost, or waits: nothing vanishes, and nothing is counted twice."""

from __future__ import annotations

import logging
import os
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_netmon import semconv
from otel_netmon.delivery import backlog, spool
from otel_netmon.delivery.backlog import Backlog, Request
from otel_netmon.delivery.segment import Segment
from otel_netmon.delivery.stats import DeliveryStats
from otel_netmon.delivery.transport import Outcome
from tests.unit.delivery.refusing import refusing
from tests.unit.monitors.helpers import Clock, wait_for_child

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))


class Job:
    """Processes after one another that share a folder, stepped by hand; one attempt at most is under way."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self.clock = Clock()
        self.sizes: dict[int, int] = {}
        """The items of each request, by its number."""
        self.taken: list[int] = []
        self.delivered = self.lost = self.killed = 0
        self.begin()

    def begin(self) -> None:
        self.backlog = Backlog("traces", self.folder, self.limit, self.clock)
        self.request: Request | None = None

    def put(self, size: int, items: int, count: int = 1) -> None:
        for _ in range(count):
            number = len(self.sizes)
            self.sizes[number] = items
            self.backlog.put(number.to_bytes(4, "little") + bytes(size), items)

    def send(self) -> None:
        if self.request is None:
            self.request = self.backlog.next()

    def answer(self, kind: str) -> None:
        if self.request is None:
            return
        if kind != "retry":
            self.taken.append(number(self.request.data))
        refused = 1 if kind == "partial" else 0
        outcome = Outcome(kind if kind != "partial" else "delivered", "HTTP 400", rejected=refused)  # type: ignore[arg-type]  # one of the three
        self.backlog.settle(self.request, outcome)
        self.request = None

    def adopt(self) -> None:
        if self.request is None:  # as the thread does it: between two attempts
            self.backlog.adopt()

    def end(self) -> None:
        self.backlog.close()
        self.backlog.leave(is_sending=self.request is not None)
        self.exit()

    def kill(self) -> None:
        self.killed += sum(map(self.items, self.in_memory()))
        self.exit()

    def exit(self) -> None:
        self.delivered += self.backlog.stats.delivered
        self.lost += sum(self.backlog.stats.lost.values())
        self.backlog.spool.disown()  # closes the files as the kernel does
        self.begin()

    def items(self, request: int) -> int:
        return self.sizes[request]

    def in_memory(self) -> list[int]:
        on_disk = self.on_disk()
        return [found for one in self.backlog.in_memory() if (found := number(one.data)) not in on_disk]

    def on_disk(self) -> list[int]:
        files = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        return [number(data) for path in files for data, _ in waiting(path)]

    def check(self) -> None:
        memory, disk = self.in_memory(), self.on_disk()
        for place in (memory, disk, self.taken):
            assert len(set(place)) == len(place), "twice in one place"
        assert not set(disk) & set(self.taken) and not set(memory) & set(disk)
        delivered = self.delivered + self.backlog.stats.delivered
        lost = self.lost + sum(self.backlog.stats.lost.values())
        there = sum(map(self.items, memory + disk))
        assert delivered + lost + there + self.killed == sum(self.sizes.values())


def number(data: bytes) -> int:
    return int.from_bytes(data[:4], "little")


def waiting(path: Path) -> Iterator[tuple[bytes, int]]:
    """What a file says that is not delivered: read here once more, by its description alone."""
    data = path.read_bytes()
    (place,) = struct.unpack_from("<Q", data, 8)
    while place < len(data):
        length, _, items = struct.unpack_from("<LLL", data, place)
        yield data[place + 12 : place + 12 + length], items
        place += 12 + length


STEPS = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 200), st.integers(1, 50), st.sampled_from([1, 1, 2, 9])),
    st.tuples(st.just("send")),
    st.tuples(st.just("answer"), st.sampled_from(["delivered", "partial", "rejected", "retry", "retry"])),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0])),
    st.tuples(st.sampled_from(["adopt", "end", "kill"])),
)


@pytest.mark.row("the spool at its limit, the disk full")
@given(st.lists(STEPS, max_size=60), st.sampled_from([0, 150, 600, 1000, 1500, 1 << 20]))
@settings(max_examples=EXAMPLES, deadline=None)
def test_nothing_vanishes_uncounted(steps: list[tuple[str, ...]], limit: int) -> None:
    """Any order of requests, attempts, answers, full disks, ends and adoptions, by small limits."""
    with (
        tempfile.TemporaryDirectory() as name,
        mock.patch.object(spool, "_SEGMENT", 400),
        mock.patch.object(backlog, "MEMORY", 700),
    ):
        job = Job(Path(name) / "spool", limit)
        for what, *arguments in steps:
            if what == "wait":
                job.clock.now += float(arguments[0])
            else:
                getattr(job, what)(*arguments)
            job.check()
        job.answer("retry")
        job.end()
        job.check()
        assert not job.in_memory()


@pytest.mark.row("the spool at its limit, the disk full")
def test_an_answer_finds_its_request_gone_and_touches_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spool is full, and makes room by the segment whose request is on its way."""
    monkeypatch.setattr(spool, "_SEGMENT", 400)
    for kind in ("delivered", "rejected", "retry"):
        job = Job(tmp_path / kind, 1200)
        job.put(100, 10)
        job.send()
        job.answer("retry")  # from now on all goes by the disk
        job.send()
        job.put(100, 10, 12)
        assert 0 not in job.on_disk() and job.backlog.stats.lost
        job.answer(kind)
        job.check()
        first = job.on_disk()[0]
        job.send()
        assert job.request is not None and number(job.request.data) == first
        job.answer("delivered")
        job.end()


def test_what_is_only_in_memory_at_the_end_is_counted(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file stands where the folder should be")
    job = Job(tmp_path / "spool", 1 << 20)
    job.put(10, 3)
    job.send()
    job.put(10, 4)
    request, stats = job.request, job.backlog.stats
    assert request is not None
    job.backlog.close()
    job.backlog.leave(is_sending=True)
    assert stats.lost == {semconv.REASON_NO_SPOOL: 7}
    job.backlog.settle(request, Outcome("delivered"))  # too late: counted once
    assert (stats.delivered, stats.lost) == (0, {semconv.REASON_NO_SPOOL: 7})


@pytest.mark.parametrize("why", ["spool_full", "spool_damaged"])
def test_what_is_logged_under_the_spools_lock_comes_back_and_is_counted(
    why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's handler that exports each line of the log at once: it comes while the spool loses something."""
    monkeypatch.setattr(spool, "_SEGMENT", 400)
    job = Job(tmp_path / "spool", 900)
    came: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            came.append(record.getMessage())
            job.put(60, 2)

    def run() -> None:
        job.put(100, 10)
        job.send()
        job.answer("retry")
        if why == "spool_damaged":
            (file,) = job.folder.iterdir()
            file.write_bytes(file.read_bytes()[:40] + bytes([1]) * 100)
            job.send()
            return
        job.send()
        job.put(100, 10, 20)
        job.answer("retry")
        job.check()

    logger, handler = logging.getLogger("otel_netmon.delivery"), Handler()
    logger.addHandler(handler)
    try:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(20)
    finally:
        logger.removeHandler(handler)
    assert not thread.is_alive() and any(why in line for line in came)
    delivered_or_lost = job.backlog.stats.delivered + sum(job.backlog.stats.lost.values())
    assert delivered_or_lost + sum(map(job.items, job.in_memory() + job.on_disk())) == sum(job.sizes.values())


@pytest.mark.row("damaged or hostile files in the spool")
def test_a_damaged_request_is_counted_and_those_behind_it_are_delivered(tmp_path: Path) -> None:
    job = Job(tmp_path / "spool", 1 << 20)
    job.put(50, 5)
    job.send()
    job.answer("retry")
    for items in (7, 9, 11):
        job.put(50, items)
    job.kill()
    (file,) = (tmp_path / "spool").iterdir()
    data = bytearray(file.read_bytes())
    place = data.index(b"\x01\x00\x00\x00" + bytes(50))
    data[place + 20] ^= 1
    file.write_bytes(data)
    job.adopt()
    for _ in range(4):
        job.send()
        job.answer("delivered")
    assert job.taken == [0, 2, 3]
    assert job.backlog.stats.delivered == 25 and job.backlog.stats.lost == {semconv.REASON_SPOOL_DAMAGED: 7}
    assert not list((tmp_path / "spool").iterdir())


def test_nothing_is_written_behind_the_torn_tail_of_what_was_taken_over(tmp_path: Path) -> None:
    job = Job(tmp_path / "spool", 1 << 20)
    job.put(50, 5)
    job.send()
    job.answer("retry")
    job.kill()
    (file,) = (tmp_path / "spool").iterdir()
    file.write_bytes(file.read_bytes() + struct.pack("<LLL", 1000, 1, 1) + b"torn")
    job.adopt()
    job.put(50, 6)
    for _ in range(2):
        job.send()
        job.answer("delivered")
    assert job.taken == [0, 1]


def test_a_file_whose_lengths_lead_nowhere_is_counted_by_what_it_was_known_to_hold(tmp_path: Path) -> None:
    lost: list[int] = []
    segment = Segment.create(tmp_path / "one", lost.append)
    for items in (3, 4, 5):
        segment.append(bytes(50), items)
    with (tmp_path / "one").open("r+b") as file:
        file.seek(16)
        file.write(b"\xff\xff\xff\xff")
    assert segment.first() is None and lost == [12] and segment.left == 0
    segment.close(remove=True)


def test_more_reasons_than_are_told_apart_are_counted_together() -> None:
    stats = DeliveryStats("traces")
    for status in range(100):
        stats.lose(f"HTTP {status}", 2)
    assert sum(stats.lost.values()) == 200
    assert len(stats.lost) <= 33 and stats.lost[semconv.REASON_OTHER] > 2


def test_a_forked_child_begins_at_nothing(tmp_path: Path) -> None:
    """What the parent lost and tried again is the parent's to report."""
    queue = refusing("traces", tmp_path / "spool", 1 << 20)
    queue.put(bytes(2 << 20), 3)  # more than the spool may hold
    deadline = time.monotonic() + 10
    while not queue.stats.failing and time.monotonic() < deadline:
        time.sleep(0.01)
    assert queue.stats.retries
    child = os.fork()
    if child == 0:
        stats = queue.stats
        left = (stats.delivered, stats.lost, stats.retries, stats.failing, queue.spool_size())
        os._exit(0 if left == (0, {}, 0, False, 0) else 3)
    assert wait_for_child(child) == 0
    assert queue.stats.retries
    queue.close(0)
