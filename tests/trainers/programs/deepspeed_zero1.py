"""DeepSpeed's engine with ZeRO stage 1 on CPU, over gloo."""

import os
import sys

os.environ.setdefault("DS_ACCELERATOR", "cpu")

import deepspeed
import torch
from torch import nn

deepspeed.init_distributed(dist_backend="gloo", verbose=False)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
config = {
    "train_micro_batch_size_per_gpu": 4,
    "gradient_accumulation_steps": 1,
    "zero_optimization": {"stage": 1},
    "zero_allow_untested_optimizer": True,
    "steps_per_print": 1000,
}
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
losses = []
for step in range(5):
    torch.manual_seed(step)
    loss = engine(torch.randn(4, 8)).square().mean()
    engine.backward(loss)
    engine.step()
    losses.append(float(loss.detach()))
if engine.global_rank == 0:
    sys.stdout.write(f"losses {losses}\n")
torch.distributed.destroy_process_group()
