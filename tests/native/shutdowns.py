"""Interpreters that end in the middle of calls, one forked child after the other; prints how they ended.

``python -m tests.native.shutdowns FOLDER COUNT [plain]``: in each child, threads that Python does not know call
collectives until the interpreter is no more, and works that nobody waits for are on their way; with our hooks on
the groups, or without (``plain``). ``FOLDER`` is where the code of those threads is compiled.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from torch.utils.cpp_extension import load

import otel_netmon.engine  # noqa: F401  # in the parent: it takes most of a child's time
from otel_netmon import TorchDistributedInstrumentor

LIMIT = 60


def child(number: int, caller: Any, ours: bool) -> None:
    """Returns with all of them at work: then the interpreter ends."""
    signal.alarm(LIMIT)
    torch.set_num_threads(1)
    if ours:
        TorchDistributedInstrumentor().instrument(tracer_provider=TracerProvider(), meter_provider=MeterProvider())
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    groups = [dist.new_group([0]) for _ in range(3)]
    for group in groups:
        caller.call_from_a_thread(group)
    for _ in range(number % 7):
        dist.all_reduce(torch.ones(1 << 16), async_op=True)
    while not caller.made():
        time.sleep(0.001)
    time.sleep((number % 10) / 1000)


def main() -> int:
    folder, count, ours = Path(sys.argv[1]), int(sys.argv[2]), "plain" not in sys.argv
    folder.mkdir(parents=True, exist_ok=True)
    source = str(Path(__file__).with_name("caller.cpp"))
    caller = load("otel_netmon_caller", [source], extra_cflags=["-O0"], build_directory=str(folder))
    gc.freeze()  # or each child takes a second at its end to see that all of torch is still needed
    ends: Counter[int] = Counter()
    since = time.monotonic()
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            child(number, caller, ours)
            return 0
        ends[os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])] += 1
    print(f"{count} shutdowns in {time.monotonic() - since:.0f} s, by exit code: {dict(ends)}")
    return 0 if set(ends) == {0} else 1


if __name__ == "__main__":
    sys.exit(main())
