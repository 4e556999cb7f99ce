"""Runs with a sanitizer in the native capture: groups come and go while many threads call; all of it is removed.

``python -m tests.native.hammer SECONDS``
"""

from __future__ import annotations

import datetime
import gc
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import torch.distributed as dist

from otel_netmon.capture.backends.native import NativeBackend
from otel_netmon.capture.recorder import Recorder
from otel_netmon.capture.ring import EventRing
from otel_netmon.capture.steps import StepTracker
from otel_netmon.job.groups import Groups


def group(store: Any, rank: int) -> Any:
    made, kind = dist.ProcessGroup(store, rank, 2), dist.ProcessGroup.BackendType.GLOO
    backend = dist.ProcessGroupGloo(store, rank, 2, datetime.timedelta(seconds=60))
    made._register_backend(torch.device("cpu"), kind, backend)
    made._set_default_backend(kind)
    return made


def calls(of: Any, rank: int) -> int:
    """What one rank of two does; how many calls with futures and without that were."""
    for number in range(10):
        of.allreduce([torch.ones(16)]).wait()
        works = [of.allreduce([torch.ones(1 << 12)]), of.broadcast([torch.ones(8)])]
        sent = of.send([torch.ones(4)], 1, number) if rank == 0 else of.recv([torch.ones(4)], 0, number)
        if number % 2:
            sent.wait()
        for work in works[number % 2 :]:
            work.wait()
    return 40


def main(seconds: float) -> None:
    ring, deadline, groups, began = EventRing(64), time.monotonic() + seconds, 0, 0
    drained: list[Any] = []
    stop = threading.Event()

    def drain() -> None:
        while not stop.wait(0.001):
            drained.extend(ring.drain())
            ring.in_flight()
            ring.aggregator.take()

    reader = threading.Thread(target=drain)
    reader.start()
    while time.monotonic() < deadline:
        backend = NativeBackend(Recorder(ring, StepTracker()), Groups())
        backend.install()
        with ThreadPoolExecutor(8) as pool:
            stores = [dist.HashStore() for _ in range(4)]
            made = list(pool.map(group, [s for s in stores for _ in range(2)], [0, 1] * 4))
            for one in made:
                backend.group_created(one)
            began += sum(pool.map(calls, made, [0, 1] * 4))
        groups += len(made)
        del made, one
        gc.collect()
        backend.poll()
        backend.close_failed_calls()
        backend.remove()
        assert not backend._recorder.errors
    stop.set()
    reader.join()
    print(f"{began} calls on {groups} groups, {len(drained)} drained")
    assert drained


if __name__ == "__main__":
    main(float(sys.argv[1]))
