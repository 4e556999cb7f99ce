"""A setup, and two steps with collectives of several kinds: what it exports is compared as a whole."""

from __future__ import annotations

import torch
import torch.distributed as dist

torch.set_num_threads(1)
torch.manual_seed(0)
dist.init_process_group("gloo")
model = torch.nn.Linear(8, 4, bias=False)
for parameter in model.parameters():  # before there is an optimizer: setup
    dist.broadcast(parameter.data, src=0)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(2):
    optimizer.zero_grad()
    model(torch.ones(2, 8)).sum().backward()
    for parameter in model.parameters():
        dist.all_reduce(parameter.grad)
    dist.reduce(torch.ones(3), dst=0)
    gathered = [torch.empty(4, dtype=torch.int64) for _ in range(2)]
    dist.all_gather(gathered, torch.ones(4, dtype=torch.int64))
    optimizer.step()
dist.destroy_process_group()
