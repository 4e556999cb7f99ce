"""Train a small convolutional network on handwritten digits, data-parallel on any number of processes.

    torchrun --nproc-per-node 4 examples/train_digits.py

The data set is the 1,797 digits of 8x8 pixels (UCI) that ship with scikit-learn, so nothing is downloaded. Exits
with 1 if fewer than 95 % of the test digits are recognised.
"""

from __future__ import annotations

import argparse
import sys

import torch
import torch.distributed as dist
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(64 * 4 * 4, 128), nn.ReLU(), nn.Linear(128, 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(images))


def load() -> tuple[TensorDataset, TensorDataset]:
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target, dtype=torch.int64)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = order[360:], order[:360]
    return TensorDataset(images[train], labels[train]), TensorDataset(images[test], labels[test])


def mean_over_ranks(total: torch.Tensor) -> float:
    """The mean over all ranks; ``total`` holds this rank's sum and count."""
    dist.all_reduce(total)
    return (total[0] / total[1]).item()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=24, help="per process")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    dist.init_process_group("gloo")
    rank, world_size = dist.get_rank(), dist.get_world_size()

    train, test = load()
    sampler = DistributedSampler(train, seed=args.seed)
    batches = DataLoader(train, batch_size=args.batch_size, sampler=sampler)
    model = DistributedDataParallel(Net())
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)

    for epoch in range(args.epochs):
        sampler.set_epoch(epoch)
        total = torch.zeros(2, dtype=torch.float64)
        for images, labels in batches:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
            total += torch.tensor([loss.item() * len(labels), len(labels)])
        loss_of_epoch = mean_over_ranks(total)
        if rank == 0:
            print(f"epoch {epoch:2}  loss {loss_of_epoch!r}", flush=True)

    model.eval()
    images, labels = test[rank::world_size]
    with torch.no_grad():
        hits = (model.module(images).argmax(1) == labels).sum()
    accuracy = mean_over_ranks(torch.tensor([hits, len(labels)], dtype=torch.float64))
    if rank == 0:
        print(f"test accuracy {accuracy:.2%}", flush=True)
    dist.destroy_process_group()
    return 0 if accuracy > 0.95 else 1


if __name__ == "__main__":
    sys.exit(main())
