"""Ranks made by torch.multiprocessing.spawn: no launcher's variables say who they are."""

import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from tests.torchrun.programs.captured import Captured, flight_recorder, write


def train(rank: int, folder: str) -> None:
    captured = Captured()
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=3)
    for _ in range(5):
        dist.all_reduce(torch.ones(4))
    entries = flight_recorder()
    write(folder, rank, {**captured.report(), "entries": entries})
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.spawn(train, args=(sys.argv[1],), nprocs=3)
