"""Loops of other shapes than one optimizer: two of them, then steps that the program marks itself."""

import sys

import torch
import torch.distributed as dist

import otel_netmon
from tests.torchrun.programs.captured import Captured, write

captured = Captured()
dist.init_process_group("gloo")
rank = dist.get_rank()
parameters = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
generator, discriminator = (torch.optim.SGD([parameter], lr=0.1) for parameter in parameters)


def reduce_and_step(optimizer: torch.optim.Optimizer, count: int) -> None:
    dist.all_reduce(torch.ones(count))
    optimizer.step()


for _ in range(3):
    reduce_and_step(discriminator, 1)
    reduce_and_step(generator, 2)

for _ in range(2):
    with otel_netmon.step():
        dist.all_reduce(torch.ones(3))
        generator.step()
        dist.all_reduce(torch.ones(4))
    dist.all_reduce(torch.ones(5))  # an evaluation between two steps

write(sys.argv[1], rank, captured.report())
dist.destroy_process_group()
