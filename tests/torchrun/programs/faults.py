"""all_reduces that raise, time out, or never finish; with ``plain`` as second argument, without us."""

import sys
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

from tests.torchrun.programs.captured import Captured, write

captured = Captured() if sys.argv[2] == "instrumented" else None
dist.init_process_group("gloo")
rank = dist.get_rank()
raised: list[Any] = []


def attempt(tensor: torch.Tensor, **kwargs: Any) -> None:
    try:
        dist.all_reduce(tensor, **kwargs)
    except Exception as error:
        raised.append([type(error).__module__, type(error).__qualname__, str(error).partition("\n")[0][:60]])


attempt(torch.ones(4), op=dist.ReduceOp.BAND)  # fails in gloo's thread: wait() raises
attempt(torch.ones(4, 4).to_sparse_csr())  # refused before anything is sent
attempt("not a tensor")  # refused by torch before us
try:
    dist.all_gather_into_tensor(torch.ones(3), torch.ones(4))  # refused by the backend
except Exception as error:
    raised.append([type(error).__module__, type(error).__qualname__, str(error).partition("\n")[0][:60]])

impatient = dist.new_group([0, 1], timeout=timedelta(seconds=1))
if rank == 0:
    attempt(torch.ones(4), group=impatient)  # rank 1 does not come
dist.barrier()
abandoned = dist.new_group([0, 1])
if rank == 0:
    work = dist.all_reduce(torch.ones(4), group=abandoned, async_op=True)
report = captured.report() if captured else {}
write(sys.argv[1], rank, {**report, "raised": raised})
