"""Trains; then rank 2 ends in the way that is asked for, or sends another size than the others."""

import os
import signal
import sys
import time

import torch
import torch.distributed as dist


def train(how: str) -> None:
    rank = dist.get_rank()
    weights = torch.nn.Linear(10, 10)
    optimizer = torch.optim.SGD(weights.parameters(), lr=0.1)
    for step in range(20):
        for parameter in weights.parameters():
            parameter.grad = torch.ones_like(parameter)
            dist.all_reduce(parameter.grad)
        if step == 19 and rank == 2:
            if how == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif how == "exit":
                os._exit(3)
            elif how == "raise":
                raise RuntimeError("this rank is broken")
            elif how == "size":
                dist.all_reduce(torch.ones(5000))
        optimizer.step()
        time.sleep(0.02)
    dist.all_reduce(torch.ones(7))
    dist.destroy_process_group()


def spawned(rank: int, how: str) -> None:
    dist.init_process_group("gloo", rank=rank, world_size=4)
    train(how)


if __name__ == "__main__":
    if "spawn" in sys.argv:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": sys.argv[3]}
        torch.multiprocessing.spawn(spawned, (sys.argv[1],), nprocs=4)
    else:
        dist.init_process_group("gloo")
        train(sys.argv[1])
