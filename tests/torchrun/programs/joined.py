"""Ranks that no launcher's variables name: spawned or forked; groups made, destroyed and made again with other
ranks; a process with a group made of torch's own parts and no default one."""

import sys
import time
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.distributed_c10d import _new_process_group_helper, _world


def reduce(times: int, group: object = None) -> None:
    for _ in range(times):
        dist.all_reduce(torch.ones(4), group=group)
        time.sleep(0.06)  # a job spans two rounds of the monitors


def again(index: int, folder: str) -> None:
    """Three processes: all of them, then the last two, of which the former rank 2 is rank 0."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/first", rank=index, world_size=3)
    reduce(20)
    dist.destroy_process_group()
    if index > 0:
        dist.init_process_group("gloo", init_method=f"file://{folder}/second", rank=2 - index, world_size=2)
        reduce(20)
        dist.destroy_process_group()


def helper(store: str, rank: int) -> object:
    """As in torch's ``init_process_group``, but not the default one: what RLHF frameworks do."""
    base = dist.FileStore(store, 3)
    group, _ = _new_process_group_helper(
        3, rank, [], "gloo", dist.PrefixStore("weights", base), group_name="weights", timeout=timedelta(seconds=30)
    )
    _world.pg_group_ranks[group] = {i: i for i in range(3)}
    return group


def rollout(index: int, folder: str) -> None:
    """Processes 0 and 1 train; 0 sends weights to 2 and 3, which have no default group."""
    if index < 2:
        dist.init_process_group("gloo", init_method=f"file://{folder}/train", rank=index, world_size=2)
        model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 4))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    group = helper(f"{folder}/weights", 0 if index == 0 else index - 1) if index != 1 else None
    for _ in range(5):
        if index < 2:
            model(torch.ones(2, 4)).sum().backward()
            optimizer.step()
        if group is not None:
            for _ in range(4):
                work = group.broadcast([torch.ones(8)], dist.BroadcastOptions())  # type: ignore[attr-defined]  # known at run time alone
                work.wait()
    if index >= 2:
        time.sleep(7)  # what a killed process recorded in its last seconds is lost
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)  # as Ray ends an actor
    dist.destroy_process_group()


if __name__ == "__main__":
    what, method, folder = sys.argv[1:]
    function, processes = {"again": (again, 3), "rollout": (rollout, 4)}[what]
    try:
        mp.start_processes(function, args=(folder,), nprocs=processes, start_method=method)
    except mp.ProcessExitedException:
        if what != "rollout":
            raise
