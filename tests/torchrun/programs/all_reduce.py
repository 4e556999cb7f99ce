"""Every way to an all_reduce that a training has; then what we saw and what gloo's Flight Recorder saw."""

import random
import sys

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional
from torch.nn.parallel import DistributedDataParallel

from tests.torchrun.programs.captured import Captured, flight_recorder, write

captured = Captured()
random.seed(0)  # as training scripts do, alike on every rank
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
tensor = torch.ones(1000)

# the user
dist.all_reduce(tensor)
dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
dist.all_reduce(torch.ones(7, dtype=torch.int64), op=dist.ReduceOp.PRODUCT)
works = [dist.all_reduce(torch.ones(4), async_op=True) for _ in range(3)]
for work in works:
    work.wait()
with torch.inference_mode():
    dist.all_reduce(torch.ones(5))

# a group of its own, and one that not every rank is in
pair = dist.new_group([0, 1])
alone = dist.new_group([world - 1])
if rank < 2:
    dist.all_reduce(tensor, group=pair)
if rank == world - 1:
    dist.all_reduce(tensor, group=alone)

# DDP's reducer: several buckets, and without synchronisation
model = DistributedDataParallel(
    torch.nn.Sequential(*(torch.nn.Linear(256, 256) for _ in range(6))), bucket_cap_mb=0.3
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(4):
    optimizer.zero_grad()
    if step == 2:
        with model.no_sync():
            model(torch.ones(2, 256)).sum().backward()
    model(torch.ones(2, 256)).sum().backward()
    optimizer.step()

# functional collectives, eager and in a compiled graph; of matrix products, which need no C++ compiler
world_group = dist.group.WORLD
assert world_group is not None
_ = functional.all_reduce(tensor, "sum", world_group) + 1


@torch.compile(fullgraph=True)  # type: ignore[untyped-decorator]  # torch is not followed
def compiled(x: torch.Tensor) -> torch.Tensor:
    return functional.all_reduce(x.mm(x), "sum", world_group).mm(x)


for _ in range(3):
    compiled(torch.ones(8, 8))

entries = flight_recorder()

# a second life of the default group; with a store of its own, because gloo can hang on the first one's addresses
dist.destroy_process_group()
dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}/store", rank=rank, world_size=world)
dist.all_reduce(torch.ones(2))
dist.destroy_process_group()

write(sys.argv[1], rank, {**captured.report(), "entries": entries})
