"""Ranks that do not step alike, and then do again: uneven inputs under Join, a skipped update, an optimizer of one
rank's own."""

import sys
import time

import torch
import torch.distributed as dist
from torch.distributed.algorithms.join import Join
from torch.nn.parallel import DistributedDataParallel

from tests.torchrun.programs.captured import Captured, write

captured = Captured()
dist.init_process_group("gloo")
rank = dist.get_rank()
model = DistributedDataParallel(torch.nn.Linear(16, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
own = torch.optim.SGD([torch.nn.Parameter(torch.ones(2))], lr=0.1)


def step(*, skip: bool = False) -> None:
    model(torch.randn(4, 16)).sum().backward()
    if not skip:
        optimizer.step()
    optimizer.zero_grad()


even, pause = (int(sys.argv[3]), 0.02) if sys.argv[3:] else (24, 0.0)
if sys.argv[2] == "join":
    with Join([model]):
        for _ in range(3 + 2 * rank):
            step()
elif sys.argv[2] == "skip":
    for number in range(6):
        step(skip=rank == 1 and number in (2, 3))
else:  # an optimizer that one rank alone has
    for number in range(6):
        step()
        if rank == 0 and number % 2:
            own.step()
for _ in range(even):
    step()
    time.sleep(pause)
write(sys.argv[1], rank, captured.report())
dist.destroy_process_group()
