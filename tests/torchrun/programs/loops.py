"""Training loops of other shapes, one after another by name; each collective is told apart by its size."""

import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from tests.torchrun.programs.captured import Captured, write

folder, shape = sys.argv[1:]
captured = Captured()
torch.manual_seed(0)
dist.init_process_group("gloo")
rank = dist.get_rank()


def mark(size: int) -> None:
    dist.all_reduce(torch.ones(size))


mark(1)  # before anything: setup
model = DistributedDataParallel(torch.nn.Linear(100, 100, bias=False))  # its gradients are 10,000 elements
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

if shape == "accumulation":
    for step in range(3):
        for micro in range(4):
            mark(10 + step)
            loss = model(torch.randn(2, 100)).sum()
            if micro < 3:
                with model.no_sync():
                    loss.backward()
            else:
                loss.backward()
        optimizer.step()
        optimizer.zero_grad()
elif shape == "scaler":
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for step in range(4):
        mark(10 + step)
        loss = model(torch.randn(2, 100)).sum() * (float("inf") if step == 1 else 1.0)
        scaler.scale(loss).backward()
        scaler.step(optimizer)  # does not step when a gradient is infinite
        scaler.update()
        optimizer.zero_grad()
elif shape == "evaluation":
    loader = DataLoader(TensorDataset(torch.randn(6, 100)), batch_size=2)
    for step, (batch,) in enumerate(loader):
        mark(10 + step)
        model(batch).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():  # an evaluation between two steps
            mark(20 + step)
elif shape == "no_optimizer":
    for step in range(8):
        mark(10 + step)
        dist.barrier()
        torch.randn(2000, 2000).mm(torch.randn(2000, 2000))  # some time

write(folder, rank, captured.report())
dist.destroy_process_group()
