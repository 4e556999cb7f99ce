"""Ray Train's TorchTrainer with two workers on this machine."""

import os
import sys

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")

import ray
import ray.train
import ray.train.torch
import torch
from torch import nn


def train(config: dict) -> None:
    torch.manual_seed(0)
    model = ray.train.torch.prepare_model(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for step in range(5):
        torch.manual_seed(step)
        loss = model(torch.randn(4, 8)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    if ray.train.get_context().get_world_rank() == 0:
        with open(os.path.join(config["folder"], "losses"), "w") as file:
            file.write(f"losses {losses}\n")


ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False)
trainer = ray.train.torch.TorchTrainer(
    train,
    train_loop_config={"folder": sys.argv[1]},
    scaling_config=ray.train.ScalingConfig(num_workers=2, use_gpu=False),
    run_config=ray.train.RunConfig(storage_path=sys.argv[1], name="run"),
)
trainer.fit()
ray.shutdown()
with open(os.path.join(sys.argv[1], "losses")) as file:
    sys.stdout.write(file.read())
