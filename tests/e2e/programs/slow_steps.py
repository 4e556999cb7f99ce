"""DDP training: STEPS steps of 0.1 s, each 30th six times as long; then rank 1 may `exit`, or be killed."""

import os
import signal
import sys
import time

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
rank, steps, fails = dist.get_rank(), int(sys.argv[1]), len(sys.argv) > 2
model = DistributedDataParallel(torch.nn.Linear(8, 8))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(steps):
    time.sleep(0.6 if step % 30 == 29 and rank == 1 else 0.1)
    model(torch.ones(2, 8)).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
if fails and rank == 1:
    if sys.argv[2] == "exit":
        sys.exit(3)
    os.kill(os.getpid(), signal.SIGKILL)
if fails:
    dist.all_reduce(torch.ones(3))
dist.destroy_process_group()
