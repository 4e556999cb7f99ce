"""Fails on its first attempt, after two steps; torchrun starts it again."""

import os
import sys

import torch
import torch.distributed as dist

from tests.torchrun.programs.captured import Captured, write

attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
folder = f"{sys.argv[1]}/attempt{attempt}"
captured = Captured()
rank = int(os.environ["RANK"])
# torchrun's own store, but with a prefix for each attempt: torch gives it none, and a second group on the keys of
# the first hangs now and then.
store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
prefixed = dist.PrefixStore(f"attempt {attempt}", store)
dist.init_process_group("gloo", store=prefixed, rank=rank, world_size=2)
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(2):
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
dist.barrier()
write(folder, rank, captured.report())
dist.barrier()  # or the first to exit has torchrun end the other before it has written
if attempt == 0:
    os._exit(7)
dist.destroy_process_group()
