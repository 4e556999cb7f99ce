"""Each rank: sweeps before, between and after training's own collectives, and across a re-initialisation."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from otel_netmon.monitors import DistributedNetworkMonitor, NetworkMetrics

folder = Path(sys.argv[1])
monitor = DistributedNetworkMonitor(True, sweep_sizes=(1024, 65536), sweep_repetitions=3, sweep_timeout=30)


def measure() -> dict[str, Any]:
    result: NetworkMetrics = monitor.measure_distributed_metrics()
    return result.to_dict()["distributed"]  # type: ignore[no-any-return]  # of JSON


before = measure()
torch_was_needed = "torch" in sys.modules

import torch  # noqa: E402  # only now: the call above is to show that it does not need it
import torch.distributed as dist  # noqa: E402  # after what has to come first

tensor = torch.ones(8)
seen: list[dict[str, Any]] = []
names: list[str | None] = []


def sweep_and_train() -> None:
    seen.append(measure())
    names.append(monitor._sweep.group_name if monitor._sweep else None)
    dist.all_reduce(tensor)


dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
sweep_and_train()
sweep_and_train()
dist.destroy_process_group()
destroyed = measure()
# With a store of its own: gloo can hang on the addresses that the first group left in the launcher's.
dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
sweep_and_train()
times = list(monitor.allreduce_times)

monitor = DistributedNetworkMonitor(True, sweep_sizes=(1024,), sweep_timeout=2)
together = measure()
# Rank 0 alone: its peer waits below, in the training's own all_reduce.
alone = [measure(), measure()] if rank == 0 else []
dist.all_reduce(tensor)
dist.destroy_process_group()

report = {
    "before": before,
    "torch_was_needed": torch_was_needed,
    "seen": seen,
    "names": names,
    "destroyed": destroyed,
    "times": times,
    "together": together,
    "alone": alone,
    "sum": tensor[0].item(),
}
(folder / f"{rank}.json").write_text(json.dumps(report))
