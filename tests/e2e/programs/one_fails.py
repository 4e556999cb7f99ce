"""Trains some steps; then the last rank raises, and the others wait for it in an all_reduce, stuck in C."""

import sys

import torch
import torch.distributed as dist

dist.init_process_group("gloo")
weights = torch.nn.Linear(10, 10)
optimizer = torch.optim.SGD(weights.parameters(), lr=0.1)
for step in range(6):
    if step == 5 and dist.get_rank() == dist.get_world_size() - 1:
        if sys.argv[1] == "raise":
            raise RuntimeError("this rank is broken")
        import time

        time.sleep(60)
    for parameter in weights.parameters():
        parameter.grad = torch.ones_like(parameter)
        dist.all_reduce(parameter.grad)
    optimizer.step()
