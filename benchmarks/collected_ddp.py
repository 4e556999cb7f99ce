"""A DDP job that counts Python's garbage collections: each rank prints how many of each generation there were
after the first steps, and how long the full ones took, as JSON. Run with and without us, by ``bench_gc``."""

import gc
import json
import sys
import time

found: list[tuple[int, float]] = []
since = [0.0]


def collecting(phase: str, info: dict[str, int]) -> None:
    if phase == "start":
        since[0] = time.perf_counter()
    else:
        found.append((info["generation"], time.perf_counter() - since[0]))


gc.callbacks.append(collecting)

import torch  # noqa: E402  # what is collected while it is imported counts as well
import torch.distributed as dist  # noqa: E402  # the same

STEPS, WARM_UP = int(sys.argv[1]), 20

torch.set_num_threads(1)
dist.init_process_group("gloo")
model = torch.nn.Sequential(*[torch.nn.Linear(128, 128) for _ in range(24)])
ddp = torch.nn.parallel.DistributedDataParallel(model, bucket_cap_mb=0.06)
optimizer = torch.optim.SGD(ddp.parameters(), lr=0.01)
before = 0
for step in range(STEPS):
    if step == WARM_UP:
        gc.collect()  # a full one comes after some hundred young ones: what was before must not decide when
        before = len(found)
    ddp(torch.randn(8, 128)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
after = found[before:]
counts = [sum(generation == each for generation, _ in after) for each in range(3)]
full = sum(seconds for generation, seconds in after if generation == 2)
line = json.dumps({"rank": dist.get_rank(), "steps": STEPS - WARM_UP, "collections": counts, "full_s": full})
sys.stdout.write(line + "\n")
sys.stdout.flush()
dist.destroy_process_group()
