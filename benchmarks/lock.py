"""How long threads of ours keep the interpreter lock from others at a time, after a burst of collectives.

The main thread makes some steps of collectives and then waits in C without the lock; meanwhile a thread sleeps
half a millisecond again and again, and how much later it wakes is how long others held the lock: no longer than
what they took of CPU meanwhile. On a busy machine it is late of itself, unless it may go before others
(``SCHED_FIFO``, which root may). The same without us is taken off.

- What our code holds of itself: the switch interval is very long, so that the lock is given up only by whoever has
  it. Garbage collections within are left out: they are a line of their own, for they look at the objects of the
  whole process, and happen in whatever thread makes the allocation that is one too many.
- What holds on when it is asked: the switch interval is very short, so that only a single call into C, or a
  collection, keeps the lock.

A thread that holds the lock for a known time shows that the method sees it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

import otel_netmon
from benchmarks.captured import Providers, asynchronous, backends, capturing, group, providers_to
from benchmarks.measuring import Line, Size, Spread, percentile, spread

_SLEEP = 0.0005
_KNOWN = 0.002
_STEPS, _CALLS = 20, 25
_NEVER, _AT_ONCE = 1000.0, 0.0001
"""Switch intervals, in seconds."""
_WHAT = "longest hold of the interpreter lock after a burst"


@dataclass
class Seen:
    """Milliseconds of the longest hold of each round without collections of garbage, and with them; and of each
    collection in a thread of ours: its generation, and how long it took."""

    without: list[float] = field(default_factory=list)
    within: list[float] = field(default_factory=list)
    collections: list[tuple[int, float]] = field(default_factory=list)


@contextlib.contextmanager
def pauses() -> Iterator[list[tuple[float, float, int, str]]]:
    """Garbage collections meanwhile: start and end in seconds, generation and name of the thread."""
    found: list[tuple[float, float, int, str]] = []
    since = 0.0

    def noted(phase: str, about: dict[str, Any]) -> None:
        nonlocal since
        now = time.perf_counter()
        if phase == "start":
            since = now
        else:
            found.append((since, now, about["generation"], threading.current_thread().name))

    gc.callbacks.append(noted)
    try:
        yield found
    finally:
        gc.callbacks.remove(noted)


def holds(work: Callable[[], object], rounds: int, wait: float, interval: float = _NEVER) -> Seen:
    """What the probe saw after each round of ``work``, with that switch interval."""
    delays: list[tuple[float, float, float]] = []
    stopping = threading.Event()

    def probe() -> None:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        while not stopping.is_set():
            start, cpu = time.perf_counter(), time.process_time() - time.thread_time()
            time.sleep(_SLEEP)
            end = time.perf_counter()
            others = time.process_time() - time.thread_time() - cpu
            delays.append((start + _SLEEP, end, min(end - start - _SLEEP, others)))

    seen, before = Seen(), sys.getswitchinterval()
    thread = threading.Thread(target=probe, name="probe")
    sys.setswitchinterval(interval)
    try:
        with pauses() as collections:
            thread.start()
            for _ in range(rounds):
                work()
                since = time.perf_counter()
                time.sleep(wait)
                after = [one for one in delays if one[0] >= since]
                seen.within.append(max((late for _, _, late in after), default=0.0) * 1e3)
                seen.without.append(
                    max((late - _shared(one, collections) for *one, late in after), default=0.0) * 1e3
                )
                seen.collections += [
                    (generation, (end - start) * 1e3)
                    for start, end, generation, name in collections
                    if name.startswith(("otel-netmon", "Otel"))
                ]
                delays.clear()
                collections.clear()
            stopping.set()
            thread.join()
    finally:
        sys.setswitchinterval(before)
    return seen


def _shared(delay: list[float], collections: list[tuple[float, float, int, str]]) -> float:
    """Seconds of a delay that were collections."""
    start, end = delay
    return sum(max(0.0, min(end, until) - max(start, since)) for since, until, _, _ in collections)


def known() -> None:
    """A thread that holds the lock for a known time, soon."""

    def hold() -> None:
        time.sleep(0.02)
        end = time.perf_counter() + _KNOWN
        while time.perf_counter() < end:
            pass

    threading.Thread(target=hold).start()


def captured(
    where: Providers, work: Callable[[], None], backend: str, rounds: int, wait: float
) -> tuple[Seen, Seen]:
    """With capture by that backend: what gives the lock up of itself only, and what does not when it is asked."""
    with capturing(backend, where):
        work()
        time.sleep(wait)
        gc.collect()  # what came before is none of ours
        return holds(work, rounds, wait), holds(work, max(2, rounds // 4), wait, _AT_ONCE)


def held(size: Size) -> Iterator[Line]:
    """With files; each round has 20 steps of 25 collectives at once."""
    torch.set_num_threads(1)
    tensor = torch.ones(16)
    rounds, wait = size(120), 0.35 if not size.is_tiny else 0.05

    def collectives() -> None:
        for _ in range(size(_STEPS)):
            with otel_netmon.step():
                for _ in range(_CALLS):
                    asynchronous(tensor)

    seen = holds(known, size(50), 0.05)
    with tempfile.TemporaryDirectory() as folder, group("gloo"):
        plain = holds(collectives, size(50), wait).within
        where = providers_to("files", folder)
        why = backends()
        chosen = [one for one in why if not why[one]][:2]  # what comes after the capture is the same for all
        found = {one: captured(where, collectives, one, rounds, wait) for one in chosen}
        for provider in where:
            provider.shutdown()
    yield Line(
        f"{_WHAT}: a thread that holds it for {_KNOWN * 1e3:.0f} ms, for comparison", "ms", spread(seen.within)
    )
    yield Line(f"{_WHAT}: without us", "ms", spread(plain))
    least = percentile(plain, 0.5)
    if why["native"]:
        yield Line(f"{_WHAT}: native, p99", "ms", None, None, "not known", 1.0, note=why["native"])
    for backend, (of_itself, when_asked) in found.items():
        without, within, asked = (
            [max(0.0, each - least) for each in those]
            for those in (of_itself.without, of_itself.within, when_asked.within)
        )
        what = f"{_WHAT}: {backend}"
        yield Line(f"{what}, our code, median", "ms", spread(without), least, "3.5")
        yield Line(
            f"{what}, our code, p99 (p95 to greatest)", "ms", _high(without), percentile(plain, 0.99), "", 1.0
        )
        yield Line(
            f"{what}, with collections of garbage, p99", "ms", _high(within), percentile(plain, 0.99), "120"
        )
        yield Line(f"{what}, when asked for it, p99", "ms", _high(asked), percentile(plain, 0.99))
        for generation in range(3):
            those = [took for number, took in of_itself.collections if number == generation]
            note = f"{len(those)} in {rounds * _STEPS * _CALLS:,} collectives"
            yield Line(
                f"collections of generation {generation} in threads of ours: {backend}",
                "ms",
                spread(those) if those else None,
                note=note,
            )


def _high(values: list[float]) -> Spread:
    return Spread(percentile(values, 0.99), percentile(values, 0.95), max(values))
