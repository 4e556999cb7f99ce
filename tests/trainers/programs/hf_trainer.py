"""Hugging Face Trainer with a two-layer model made on the spot."""

import sys

import torch
from torch import nn
from transformers import Trainer, TrainingArguments


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.net(x).squeeze(-1)
        return {"loss": (y - labels).square().mean(), "logits": y}


torch.manual_seed(0)
data = [{"x": torch.randn(8), "labels": torch.randn(())} for _ in range(80)]
arguments = TrainingArguments(
    output_dir=sys.argv[1],
    max_steps=5,
    per_device_train_batch_size=4,
    gradient_accumulation_steps=2,
    report_to=[],
    save_strategy="no",
    logging_steps=1,
    use_cpu=True,
    disable_tqdm=True,
    seed=0,
)
trainer = Trainer(model=Tiny(), args=arguments, train_dataset=data)
trainer.train()
if trainer.is_world_process_zero():
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    sys.stdout.write(f"losses {losses}\n")
