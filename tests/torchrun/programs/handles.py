"""Handles of sends, receives and asynchronous collectives: kept, dropped, never waited for; then a real hang."""

import gc
import sys
import time
import weakref
from pathlib import Path

import torch
import torch.distributed as dist

from tests.torchrun.programs.captured import Captured, write

MIB = 256 * 1024


def resident() -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) >> 10


captured = Captured()
dist.init_process_group("gloo")
rank = dist.get_rank()
said: dict[str, object] = {}

# --- memory: what the user lets go of is gone -------------------------------------------------------------
before, kept = resident(), []
for number in range(200):
    if rank == 0:
        kept.append(dist.isend(torch.full((MIB,), float(number)), 1))
    else:
        dist.recv(torch.empty(MIB), 0)
    if number % 10 == 9:
        dist.barrier()
        kept.clear()
said["grew"] = resident() - before


# --- the very handle: dead as soon as nobody of the user's has it -------------------------------------------
def gone(handle: object) -> bool:
    ref = weakref.ref(handle)
    del handle
    return ref() is None


def exchange() -> list[bool]:
    tensor, other = torch.ones(64), 1 - rank
    found = []
    for _ in range(3):
        handles = [dist.isend(tensor, other), dist.irecv(torch.empty(64), other)]
        for handle in handles:
            handle.wait()
        refs = [weakref.ref(handle) for handle in handles]
        del handle, handles
        found += [ref() is None for ref in refs]
        handles = dist.batch_isend_irecv(
            [dist.P2POp(dist.isend, tensor, other), dist.P2POp(dist.irecv, torch.empty(64), other)]
        )
        refs = [weakref.ref(handle) for handle in handles]
        dist.barrier()
        del handles
        found += [ref() is None for ref in refs]
        handle = dist.all_reduce(tensor, async_op=True)
        handle.wait()
        time.sleep(0.05)
        ref = weakref.ref(handle)
        del handle
        found.append(ref() is None)
    return found


gc.disable()
said["gone"] = exchange()
gc.enable()

# --- kept to the very end, and never waited for: nobody can tell when they ended, and nobody says that they hang
forever = []
if rank == 0:
    forever = [dist.isend(torch.ones(8), 1) for _ in range(300)]
else:
    for _ in range(300):
        dist.recv(torch.empty(8), 0)
time.sleep(2)

# --- a hang that is one ------------------------------------------------------------------------------------
if rank == 1:
    time.sleep(2.5)
dist.all_reduce(torch.ones(4))
dist.barrier()
write(sys.argv[1], rank, {**captured.report(), **said})
dist.destroy_process_group()
