"""Thirty steps in which one rank is late from the ninth on; docs/jaeger.md shows what that looks like.

otel-netmon run -- torchrun --nproc-per-node 4 examples/slow_rank.py [LATE_RANK [SECONDS]]
"""

from __future__ import annotations

import sys
import time

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

late = int(sys.argv[1]) if len(sys.argv) > 1 else 2
seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 0.15
torch.set_num_threads(1)
torch.manual_seed(0)
dist.init_process_group("gloo")
model = DistributedDataParallel(torch.nn.Linear(256, 256))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for step in range(30):
    optimizer.zero_grad()
    if dist.get_rank() == late and step >= 8:
        time.sleep(seconds)  # such as a slow disk
    model(torch.randn(64, 256)).square().mean().backward()
    optimizer.step()
dist.destroy_process_group()
