"""Collectives on groups whose backend makes calls of its own for each, as torch's debug level DETAIL has it."""

import sys

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as functional
from torch.distributed.device_mesh import init_device_mesh

from tests.torchrun.programs.captured import Captured, write

captured = Captured()
dist.init_process_group("gloo")
mesh = init_device_mesh("cpu", (1, 2), mesh_dim_names=("alone", "both"))
names, wrappers = [], set()
for group in (dist.new_group([0, 1]), mesh.get_group("alone"), mesh.get_group("both")):
    assert group is not None
    names.append(group.group_name)
    wrappers.add(type(group._get_backend(torch.device("cpu"))).__name__)
    dist.all_reduce(torch.ones(4), group=group)
    dist.all_gather_into_tensor(torch.ones(4 * group.size()), torch.ones(4), group=group, async_op=True).wait()
    dist.broadcast(torch.ones(4), group=group, group_src=0)
    functional.all_reduce(torch.ones(4), "sum", group).wait()
    dist.barrier(group)

write(sys.argv[1], dist.get_rank(), {**captured.report(), "names": names, "wrappers": sorted(wrappers)})
dist.destroy_process_group()
