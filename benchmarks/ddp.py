"""Training steps of DDP with 25 collectives each; each rank prints what they took, as JSON. Run by ``jobs``.

    ddp.py whole STEPS PAUSE            instrumented or not by whoever starts it
    ddp.py blocks BLOCKS STEPS PAUSE    captured in every other block of steps, to files in OTEL_NETMON_OUTPUT_DIR

PAUSE is the seconds that each rank sleeps in a step: with it, the machine is half idle.
"""

import json
import os
import statistics
import sys
import time

import torch
import torch.distributed as dist

sys.path.insert(0, os.environ["PYTHONPATH"].rpartition(os.pathsep)[2])
from benchmarks.measuring import cpu_of_threads  # Python put this file's folder on the path

LAYERS, WARM_UP = 24, 5

torch.set_num_threads(1)
torch.manual_seed(0)
dist.init_process_group("gloo")
model = torch.nn.Sequential(*[torch.nn.Linear(448, 448, bias=False) for _ in range(LAYERS)])
ddp = torch.nn.parallel.DistributedDataParallel(model, bucket_cap_mb=0.5)
optimizer = torch.optim.SGD(ddp.parameters(), lr=1e-4)
batch = torch.randn(192, 448)


def step(pause: float) -> float:
    """One step; its seconds, from when both ranks are there."""
    dist.barrier()
    start = time.perf_counter()
    ddp(batch).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    if pause:
        time.sleep(pause)
    return time.perf_counter() - start


def say(**found: object) -> None:
    """One line, even where both ranks print at once."""
    os.write(1, (json.dumps({"rank": dist.get_rank(), **found}) + "\n").encode())


def whole(steps: int, pause: float) -> None:
    """CPU of each kind of thread over so many steps, until what they left to do in the background is done."""
    for _ in range(WARM_UP):
        step(pause)
    before = cpu_of_threads()
    times = [step(pause) for _ in range(steps)]
    time.sleep(1.5)
    after = cpu_of_threads()
    cpu = {name: after[name] - before[name] for name in after}
    say(cpu=cpu, step=statistics.median(times), calls=steps * (LAYERS + 1))


def blocks(count: int, steps: int, pause: float) -> None:
    """Median step, and CPU of the process per step, of each block: off on on off, so that a drift cancels out."""
    from benchmarks.captured import providers_to  # not sooner: it imports us
    from otel_netmon import TorchDistributedInstrumentor

    tracer_provider, meter_provider = providers_to("files", os.environ["OTEL_NETMON_OUTPUT_DIR"])
    found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for block in range(2 * count):
        captured = block % 4 in (1, 2)
        if captured:
            TorchDistributedInstrumentor().instrument(
                tracer_provider=tracer_provider, meter_provider=meter_provider
            )
        step(pause)  # the first of a block starts the background
        start = time.process_time()
        times = [step(pause) for _ in range(steps)]
        tracer_provider.force_flush()
        dist.barrier()
        found[captured].append((statistics.median(times), (time.process_time() - start) / steps))
        if captured:
            TorchDistributedInstrumentor().uninstrument()
    names = {False: "plain", True: "captured"}
    say(
        **{
            f"{names[on]}_{what}": [one[i] for one in all_]
            for on, all_ in found.items()
            for i, what in ((0, "step"), (1, "cpu"))
        }
    )
    tracer_provider.shutdown()
    meter_provider.shutdown()


if sys.argv[1] == "whole":
    whole(int(sys.argv[2]), float(sys.argv[3]))
else:
    blocks(int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
dist.destroy_process_group()
