"""Steps of a fixed length on all ranks, one of which comes late; then it ends, or one rank hangs."""

from __future__ import annotations

import sys
import time

import torch
import torch.distributed as dist

steps, seconds, late, hangs = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
dist.init_process_group("gloo")
rank = dist.get_rank()
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(64, 64))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(steps):
    time.sleep(seconds + (0.05 if rank == late else 0.0))
    if rank == hangs and step == steps - 1:
        time.sleep(600)
    optimizer.zero_grad()
    model(torch.randn(8, 64)).sum().backward()
    optimizer.step()
print(f"rank {rank} is done", flush=True)
dist.destroy_process_group()
