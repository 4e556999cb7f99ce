"""One call of each operation that gloo has, in a known order, on three ranks."""

import sys
import time

import torch
import torch.distributed as dist

from tests.torchrun.programs.captured import Captured, flight_recorder, write

captured = Captured()
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()


def ones(count: int) -> torch.Tensor:
    return torch.ones(count)


def several(count: int) -> list[torch.Tensor]:
    return [torch.ones(count) for _ in range(world)]


dist.broadcast(ones(10), 0)
dist.reduce(ones(10), 0)
dist.all_gather(several(10), ones(10))
dist.all_gather_into_tensor(ones(10 * world), ones(10))
dist.gather(ones(10), several(10) if rank == 0 else None, 0)
dist.scatter(ones(10), several(10) if rank == 0 else None, 0)
dist.reduce_scatter(ones(10), several(10))
dist.reduce_scatter_tensor(ones(10), ones(10 * world))
dist.all_to_all(several(10), several(10))
dist.all_to_all_single(ones(10 * world), ones(10 * world))
splits = [1, 2, 3]
dist.all_to_all_single(ones(splits[rank] * world), ones(6), [splits[rank]] * world, splits)
dist.barrier()
dist.monitored_barrier()
dist.all_reduce_coalesced([ones(10), ones(20)])
dist.all_reduce(torch.eye(3).to_sparse_coo())
if rank == 0:
    dist.send(ones(5), 1)
    dist.isend(ones(5), 2).wait()
else:
    dist.recv(ones(5), 0 if rank == 1 else None)
dist.barrier()  # or the receive from anyone could take the next message
neighbours = [
    dist.P2POp(dist.isend, ones(4), (rank + 1) % world),
    dist.P2POp(dist.irecv, ones(4), (rank - 1) % world),
]
for work in dist.batch_isend_irecv(neighbours):
    work.wait()
dist.broadcast(ones(1), 0)  # after the sends: its sequence number is the same on all ranks

# gloo's threads retire an entry after its caller was told, and on a busy machine some time after
deadline = time.monotonic() + 5
while not all(entry["retired"] for entry in flight_recorder()) and time.monotonic() < deadline:
    time.sleep(0.01)

entries = flight_recorder()
write(sys.argv[1], rank, {**captured.report(), "entries": entries})
dist.destroy_process_group()
