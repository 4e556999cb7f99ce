"""Who calls collectives in a training: each section is one caller, run between two marks in time.

What gloo's Flight Recorder has no entries for (sends, receives), the sections count by themselves.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed._functional_collectives as funcol
from torch import nn
from torch._dynamo.utils import counters
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe
from torch.distributed.tensor import Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

from tests.torchrun.programs.captured import Captured, flight_recorder, write

warnings.filterwarnings("ignore")
folder, instrumented = sys.argv[1], sys.argv[2] == "instrumented"
captured = Captured() if instrumented else None
torch.manual_seed(0)
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
assert world == 4
mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("outer", "inner"))
line = init_device_mesh("cpu", (4,))
pair = dist.new_subgroups(2)[0]
sections: dict[str, dict[str, Any]] = {}
results: dict[str, list[float]] = {}


def section(run: Callable[[], tuple[dict[str, int], Any]]) -> Callable[[], tuple[dict[str, int], Any]]:
    """Run it between two barriers; keep its times, what it counted itself, and what it computed."""
    dist.barrier()
    start = time.time_ns()
    counted, value = run()
    end = time.time_ns()
    dist.barrier()
    sections[run.__name__] = {"start": start, "end": end, "counted": counted}
    results[run.__name__] = torch.as_tensor(value, dtype=torch.float64).flatten().tolist()
    return run


def network(width: int = 64) -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 8)
    )


def train(model: nn.Module, optimizer: torch.optim.Optimizer | None = None, steps: int = 3) -> list[float]:
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.01)
    losses = []
    for step in range(steps):
        torch.manual_seed(100 + step)
        loss = model(torch.randn(8, 64)).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
    return losses


@section
def ddp_of_several_buckets() -> tuple[dict[str, int], Any]:
    model = DistributedDataParallel(network(), bucket_cap_mb=0.01)
    losses = train(model)
    with model.no_sync():
        model(torch.randn(8, 64)).sum().backward()
    return {}, losses + train(model, steps=1)


@section
def ddp_with_unused_parameters() -> tuple[dict[str, int], Any]:
    class Partly(nn.Module):  # type: ignore[misc]  # Any, where torch is not followed
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = network(), nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> Any:
            return self.used(x)

    return {}, train(DistributedDataParallel(Partly(), find_unused_parameters=True))


@section
def ddp_with_a_communication_hook() -> tuple[dict[str, int], Any]:
    model = DistributedDataParallel(network())
    model.register_comm_hook(None, default_hooks.fp16_compress_hook)
    return {}, train(model)


@section
def ddp_with_a_static_graph() -> tuple[dict[str, int], Any]:
    return {}, train(DistributedDataParallel(network(), static_graph=True))


@section
def fsdp_on_a_line() -> tuple[dict[str, int], Any]:
    model = network()
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=line)
    fully_shard(model, mesh=line)
    return {}, train(model)


@section
def fsdp_on_a_plane() -> tuple[dict[str, int], Any]:
    model = network()
    fully_shard(model, mesh=mesh)
    return {}, train(model)


@section
def tensor_parallel() -> tuple[dict[str, int], Any]:
    plan: dict[str, Any] = {"0": ColwiseParallel(), "2": RowwiseParallel()}
    return {}, train(parallelize_module(network(), mesh["inner"], plan))


@section
def sequence_parallel() -> tuple[dict[str, int], Any]:
    torch.manual_seed(1)
    model = nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64))
    plan: dict[str, Any] = {
        "0": SequenceParallel(sequence_dim=0),
        "1": ColwiseParallel(input_layouts=Shard(0)),
        "3": RowwiseParallel(),
    }
    return {}, train(parallelize_module(model, mesh["inner"], plan))


@section
def pipeline_of_two_stages() -> tuple[dict[str, int], Any]:
    torch.manual_seed(1)
    stage_index, count = dist.get_rank(pair), 4
    module = nn.Linear(16, 16)
    stage = PipelineStage(module, stage_index, 2, torch.device("cpu"), group=pair)
    schedule = ScheduleGPipe(
        stage, n_microbatches=count, loss_fn=lambda out, target: (out - target).square().sum()
    )
    counted: Counter[str] = Counter()

    def profile(_frame: Any, happened: str, function: Any) -> None:
        if happened == "c_call" and function.__name__ in ("send", "recv"):
            counted[f"{pair.group_name} {function.__name__}"] += 1

    sys.setprofile(profile)
    for _ in range(2):
        if stage_index == 0:
            schedule.step(torch.ones(8, 16))
        else:
            schedule.step(target=torch.ones(8, 16))
    sys.setprofile(None)
    assert counted[f"{pair.group_name} send"] >= 2 * count
    return dict(counted), 0.0


@section
def zero_redundancy() -> tuple[dict[str, int], Any]:
    model = DistributedDataParallel(network())
    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.Adam, lr=0.01)
    return {}, train(model, optimizer)


@section
def objects() -> tuple[dict[str, int], Any]:
    gathered: list[Any] = [None] * world
    dist.all_gather_object(gathered, {"rank": rank})
    shared = [rank, "x" * 100]
    dist.broadcast_object_list(shared, src=1)
    dist.gather_object(rank, [None] * world if rank == 0 else None, dst=0)
    received: list[Any] = [None]
    dist.scatter_object_list(received, list(range(world)) if rank == 2 else None, src=2)
    return {}, [each["rank"] for each in gathered] + received


@section
def asynchronous() -> tuple[dict[str, int], Any]:
    tensors = [torch.ones(100) * rank for _ in range(6)]
    works = [dist.all_reduce(tensor, async_op=True) for tensor in tensors]
    time.sleep(0.4)
    for work in works[:4]:
        work.wait()
    while not all(work.is_completed() for work in works):  # two that nobody ever waits for
        time.sleep(0.001)
    return {}, tensors[5][0]


@section
def subgroups_and_pairs() -> tuple[dict[str, int], Any]:
    three = dist.new_group([0, 1, 3])
    alone = dist.new_group([2])
    counted: Counter[str] = Counter()
    if rank == 2:
        dist.all_reduce(torch.ones(3), group=alone)
    else:
        dist.all_reduce(torch.ones(3), group=three)
        dist.broadcast(torch.ones(3), 3, group=three)
    if rank in (1, 3):
        other = 4 - rank
        operations = [
            dist.P2POp(dist.isend, torch.ones(4), other, group=three),
            dist.P2POp(dist.irecv, torch.ones(4), other, group=three),
        ]
        for work in dist.batch_isend_irecv(operations):
            work.wait()
        counted.update({f"{three.group_name} send": 1, f"{three.group_name} recv": 1})
    if rank == 0:
        dist.send(torch.ones(2), 2)
        counted["0 send"] += 1
    elif rank == 2:
        dist.recv(torch.ones(2), 0)
        counted["0 recv"] += 1
    return dict(counted), 0.0


@section
def dimensions_of_a_mesh() -> tuple[dict[str, int], Any]:
    value = torch.ones(5) * rank
    dist.all_reduce(value, group=mesh.get_group("outer"))
    dist.all_reduce(value, group=mesh.get_group("inner"))
    return {}, value


@section
def functional_in_a_compiled_graph() -> tuple[dict[str, int], Any]:
    layer = nn.Linear(16, 16)

    @torch.compile(backend="aot_eager", fullgraph=True)  # type: ignore[untyped-decorator]  # torch's has no types
    def step(x: torch.Tensor) -> torch.Tensor:
        y = funcol.all_reduce(layer(x), "sum", line.get_group())
        return funcol.all_gather_tensor(y, 0, line.get_group()).sum()

    return {}, [step(torch.ones(4, 16)).detach() for _ in range(3)]


@section
def ddp_compiled() -> tuple[dict[str, int], Any]:
    model = torch.compile(DistributedDataParallel(network()), backend="aot_eager")
    return {}, train(model)


entries = flight_recorder()
dist.destroy_process_group()

# A second default group in the same process, with a store of its own; its Flight Recorder goes on counting.
again = Path(tempfile.gettempdir()) / f"otel-netmon-again-{os.environ['TORCHELASTIC_RUN_ID']}"
dist.init_process_group("gloo", init_method=f"file://{again}", rank=rank, world_size=world)
start = time.time_ns()
for _ in itertools.repeat(None, 3):
    dist.all_reduce(torch.ones(7))
sections["a_second_default_group"] = {"start": start, "end": time.time_ns(), "counted": {}}
seen = {entry["time_created_ns"] for entry in entries}
entries += [entry for entry in flight_recorder() if entry["time_created_ns"] not in seen]
report = captured.report() if captured else {}
stats = {name: dict(counters[name]) for name in ("stats", "graph_break")}
write(folder, rank, {**report, "entries": entries, "sections": sections, "results": results, "dynamo": stats})
dist.barrier()
dist.destroy_process_group()
