"""PyTorch Lightning, DDP on two CPU processes that Lightning itself starts or finds."""

import os
import sys

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Tiny(L.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
        self.losses: list[float] = []

    def training_step(self, batch: list[torch.Tensor], _index: int) -> torch.Tensor:
        loss = self.net(batch[0]).square().mean()
        self.losses.append(float(loss.detach()))
        return loss

    def validation_step(self, batch: list[torch.Tensor], _index: int) -> None:
        self.log("val", self.net(batch[0]).mean(), sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


L.seed_everything(0, verbose=False)
data = DataLoader(TensorDataset(torch.randn(40, 8)), batch_size=4)
trainer = L.Trainer(
    accelerator="cpu",
    devices=2,
    strategy="ddp",
    max_steps=5,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    default_root_dir=sys.argv[1],
)
model = Tiny()
trainer.fit(model, data, data)
if trainer.is_global_zero:
    sys.stdout.write(f"losses {model.losses}\n")
    sys.stdout.flush()
os.environ.pop("PL_TRAINER", None)
