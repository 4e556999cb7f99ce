"""How long a thread of ours holds the interpreter lock at a time.

Threads give the lock back of themselves only: the switch interval is very long. The main thread makes collectives
and then waits in C without the lock; meanwhile a thread sleeps half a millisecond again and again, and how much
later it wakes is how long another thread held the lock: no longer than what the other threads of the process took
of CPU meanwhile, for on a busy machine it is late of itself. The same without us is taken off. A thread that holds
the lock for a known time shows that the method sees it.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

import torch

from benchmarks.captured import asynchronous, backends, capturing, group, providers_to
from benchmarks.measuring import Line, Size, Spread, percentile, spread

_SLEEP = 0.0005
_KNOWN = 0.002


def longest(work: Callable[[], object], rounds: int, wait: float) -> list[float]:
    """Milliseconds of the longest delay of the probe after each round of ``work``."""
    delays: list[tuple[float, float]] = []
    stopping = threading.Event()

    def probe() -> None:
        while not stopping.is_set():
            start, cpu = time.perf_counter(), time.process_time() - time.thread_time()
            time.sleep(_SLEEP)
            late = time.perf_counter() - start - _SLEEP
            others = time.process_time() - time.thread_time() - cpu
            delays.append((start, min(late, others)))

    thread = threading.Thread(target=probe, name="probe")
    thread.start()
    found = []
    for _ in range(rounds):
        work()
        since = time.perf_counter()
        time.sleep(wait)
        found.append(max((late for start, late in delays if start >= since), default=0.0) * 1e3)
        delays.clear()
    stopping.set()
    thread.join()
    return found


def known() -> None:
    """A thread that holds the lock for a known time, soon."""

    def hold() -> None:
        time.sleep(0.02)
        end = time.perf_counter() + _KNOWN
        while time.perf_counter() < end:
            pass

    threading.Thread(target=hold).start()


def held(size: Size) -> Iterator[Line]:
    """With files; each round has 20 steps' worth of collectives at once, as after a burst."""
    torch.set_num_threads(1)
    tensor = torch.ones(16)
    rounds, wait = size(50), 0.35 if not size.is_tiny else 0.05

    def collectives() -> None:
        for _ in range(size(500, 5)):
            asynchronous(tensor)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        seen = longest(known, size(50), 0.05)
        noise = longest(lambda: None, rounds, wait)
        with tempfile.TemporaryDirectory() as folder, group("gloo"):
            plain = longest(collectives, rounds, wait)
            where = providers_to("files", folder)
            found = {}
            why = backends()
            for backend in (name for name in why if not why[name]):
                with capturing(backend, where):
                    collectives()
                    found[backend] = longest(collectives, rounds, wait)
            for provider in where:
                provider.shutdown()
    finally:
        sys.setswitchinterval(before)
    what = "longest hold of the interpreter lock after a burst"
    yield Line(
        f"{what}: a thread that holds it for {_KNOWN * 1e3:.0f} ms, to check the method", "ms", spread(seen)
    )
    yield Line(f"{what}: no collectives", "ms", spread(noise))
    yield Line(f"{what}: without us", "ms", spread(plain))
    least = percentile(plain, 0.5)
    for backend, reason in why.items():
        if not reason:
            one = [max(0.0, each - least) for each in found[backend]]
            yield Line(f"{what}: {backend}, median", "ms", spread(one), least)
            p99 = percentile(one, 0.99)
            high = Spread(p99, percentile(one, 0.95), max(one))
            yield Line(
                f"{what}: {backend}, p99 (p95 to greatest)", "ms", high, percentile(plain, 0.99), "not known", 1.0
            )
        else:
            yield Line(f"{what}: {backend}, p99", "ms", None, None, "not known", 1.0, note=reason)
