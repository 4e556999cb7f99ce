"""Groups that come and go between two looks at the Flight Recorder, and a recorder that is too small."""

import os
import sys
import time

import torch
import torch.distributed as dist

from tests.torchrun.programs.captured import Captured, flight_recorder, write

folder, how = sys.argv[1:]
captured = Captured()
rank = int(os.environ["RANK"])


def init(name: str) -> None:
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    dist.init_process_group("gloo", store=dist.PrefixStore(name, store), rank=rank, world_size=2)


def reduce(times: int, group: dist.ProcessGroup | None = None) -> None:
    for _ in range(times):
        dist.all_reduce(torch.ones(4), group=group)


init("first")
if how == "groups":
    for _ in range(3):
        group = dist.new_group([0, 1])
        reduce(10, group)
        dist.destroy_process_group(group)
    for _ in range(3):  # more than is remembered
        reduce(3000)
        time.sleep(0.6)
    dist.destroy_process_group()
    init("second")
    reduce(20)
    dist.destroy_process_group()
else:
    reduce(1000)
    time.sleep(1.5)
write(folder, rank, {**captured.report(), "entries": flight_recorder()})
