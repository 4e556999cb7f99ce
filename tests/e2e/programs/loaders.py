"""A rank alone whose batches come from two DataLoader workers, started in the way that it is told."""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset


class Numbers(Dataset):  # type: ignore[misc, type-arg, unused-ignore]  # with and without torch
    def __len__(self) -> int:
        return 32

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.full((4,), float(index))


def main(how: str) -> None:
    torch.manual_seed(0)
    dist.init_process_group("gloo")
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    for _ in range(2):  # new workers each time, while requests are on their way
        for batch in DataLoader(Numbers(), batch_size=4, num_workers=2, multiprocessing_context=how):
            model(batch).square().mean().backward()
            for parameter in model.parameters():
                dist.all_reduce(parameter.grad)
            optimizer.step()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1])
