"""Trees of /proc and /sys from one file each, a source of NICs in memory, and a clock that is set by hand."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

from otel_netmon.monitors.nics import NicReading
from otel_netmon.monitors.procfs import NicCounters

FIXTURES = Path(__file__).parent / "fixtures"


@dataclass(frozen=True)
class Tree:
    """An unpacked tree: the roots a monitor takes, and what a test changes in it."""

    root: Path

    @property
    def proc(self) -> Path:
        return self.root / "proc"

    @property
    def sys(self) -> Path:
        return self.root / "sys"

    @property
    def dev(self) -> Path:
        return self.proc / "1" / "net" / "dev"

    def set(self, nic: str, entry: str, value: object) -> None:
        (self.sys / "class" / "net" / nic / entry).write_text(f"{value}\n")

    def add(self, nic: str, *, received: int, sent: int) -> None:
        """Move the counters of bytes and packets of one NIC; negative amounts as a reset would."""
        lines = self.dev.read_text().splitlines(keepends=True)
        for position, line in enumerate(lines):
            name, colon, rest = line.partition(":")
            if colon and name.strip() == nic:
                values = [int(value) for value in rest.split()]
                for column, amount in ((0, received), (1, received // 1000), (8, sent), (9, sent // 1000)):
                    values[column] += amount
                lines[position] = f"{name}: {' '.join(map(str, values))}\n"
        self.dev.write_text("".join(lines))


def unpack(name: str, folder: Path) -> Tree:
    """``fixtures/<name>.tree``: ``@ path = line``, ``@ path -> link``, or ``@ path`` and the lines below it."""
    target: Path | None = None
    for line in (FIXTURES / f"{name}.tree").read_text().splitlines(keepends=True):
        if not line.startswith("@ "):
            assert target is not None
            with target.open("a") as file:
                file.write(line)
            continue
        path, kind, rest = (line[2:].strip(), "", "")
        for kind in (" = ", " -> "):
            path, found, rest = line[2:].rstrip("\n").partition(kind)
            if found:
                break
        target = folder / name / path.strip()
        target.parent.mkdir(parents=True, exist_ok=True)
        if rest and kind == " -> ":
            target.symlink_to(rest)
        else:
            target.write_text(f"{rest}\n" if rest else "")
    return Tree(folder / name)


class Clock:
    """Monotonic seconds, moved by hand."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def nic(name: str = "eth0", **changes: object) -> NicReading:
    """A physical NIC of 10 Gbit/s that is up, with all counters 0."""
    base = NicReading(name, "test", True, NicCounters(*[0] * 8), index=2, speed=1.25e9, mtu=1500, up=True)
    return replace(base, **changes)  # type: ignore[arg-type]  # fields by name


def counters(received: int, sent: int) -> NicCounters:
    """Bytes as given, and a thousandth of them as packets."""
    return NicCounters(received, received // 1000, 0, 0, sent, sent // 1000, 0, 0)


@dataclass
class FakeSource:
    """NICs from memory. ``on_read`` runs inside each read, where the real one does its I/O."""

    nics: list[NicReading] = field(default_factory=lambda: [nic()])
    on_read: Callable[[], None] = lambda: None
    kept: Set[str] = frozenset()

    def read(self, patterns: tuple[str, ...] | None, keep: Set[str]) -> list[NicReading]:
        self.on_read()
        self.kept = keep
        return list(self.nics)


@contextlib.contextmanager
def restless() -> Iterator[None]:
    """Let threads change places as often as the interpreter can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def together(*jobs: Callable[[], object], timeout: float = 60.0) -> None:
    """Run each job in a thread of its own, all started at one moment; raise the first failure."""
    barrier = threading.Barrier(len(jobs))
    failures: list[BaseException] = []

    def run(job: Callable[[], object]) -> None:
        try:
            barrier.wait(timeout)
            job()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout)
    assert not any(thread.is_alive() for thread in threads), "deadlock"
    if failures:
        raise failures[0]


@contextlib.contextmanager
def held_by_another_thread(lock: threading.RLock) -> Iterator[None]:
    """Keep a lock locked, by a thread that does nothing else, for the time of the block."""
    taken, release = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            taken.set()
            release.wait(60)

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert taken.wait(60)
    try:
        yield
    finally:
        release.set()
        thread.join(60)


def wait_for_child(pid: int, timeout: float = 30.0) -> int:
    """The exit code of a forked child; it is killed when it does not end in time."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return -signal.SIGKILL
