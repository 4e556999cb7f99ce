"""RLHF's layout on Ray: two trainers with a default group, two rollout actors without one; trainer 0 sends the
rollout actors its weights over a group made of torch's own parts. Some seconds later Ray kills all of them."""

import os
import sys
import time
from datetime import timedelta

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray

ROUNDS, TENSORS = 5, 4


def weights_group(rank: int, address: str):
    """As OpenRLHF has it: torch's ``init_process_group``, but for the default group."""
    from torch.distributed import PrefixStore
    from torch.distributed.distributed_c10d import (
        Backend,
        _new_process_group_helper,
        _world,
        default_pg_timeout,
        rendezvous,
    )

    store, rank, world_size = next(rendezvous(address, rank, 3, timeout=timedelta(seconds=60)))
    store = PrefixStore("weights", store)
    group, _ = _new_process_group_helper(
        world_size, rank, [], Backend("gloo"), store, group_name="weights", timeout=default_pg_timeout
    )
    _world.pg_group_ranks[group] = {i: i for i in range(world_size)}
    return group


@ray.remote(num_cpus=1)
class Trainer:
    def __init__(self, rank: int, folder: str) -> None:
        import torch
        import torch.distributed as dist

        # frameworks set these for their own numbering; the processes of other kinds have them alike
        os.environ.update(RANK=str(rank), WORLD_SIZE="2")
        dist.init_process_group("gloo", init_method=f"file://{folder}/trainers", rank=rank, world_size=2)
        torch.manual_seed(0)
        self.model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 8))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        self.losses = []

    def join(self, address: str) -> None:
        self.weights = weights_group(0, address)

    def train(self, seed: int) -> float:
        import torch

        torch.manual_seed(seed)
        loss = self.model(torch.randn(4, 8)).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())

    def send(self) -> None:
        import torch.distributed as dist

        for parameter in list(self.model.parameters()) * (TENSORS // 2):
            dist.broadcast(parameter.data, 0, group=self.weights)


@ray.remote(num_cpus=1)
class Rollout:
    def join(self, rank: int, address: str) -> None:
        os.environ.update(RANK=str(rank - 1), WORLD_SIZE="2")
        self.weights = weights_group(rank, address)

    def receive(self) -> float:
        import torch
        import torch.distributed as dist

        total = 0.0
        for number in range(TENSORS):
            tensor = torch.empty(8, 8) if number % 2 == 0 else torch.empty(8)
            dist.broadcast(tensor, 0, group=self.weights)
            total += float(tensor.sum())
        return total


folder = sys.argv[1]
ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
trainers = [Trainer.remote(rank, folder) for rank in range(2)]
rollouts = [Rollout.remote() for _ in range(2)]
address = f"file://{folder}/weights"
ray.get([trainers[0].join.remote(address), *(r.join.remote(i + 1, address) for i, r in enumerate(rollouts))])
losses = []
for number in range(ROUNDS):
    losses.append(ray.get([trainer.train.remote(number) for trainer in trainers])[0])
    sums = ray.get([trainers[0].send.remote(), *(rollout.receive.remote() for rollout in rollouts)])[1:]
    losses.append(sums[0])
    time.sleep(0.2)
time.sleep(6)  # what a killed process recorded in its last seconds is lost
for actor in (*trainers, *rollouts):
    ray.kill(actor)
ray.shutdown()
sys.stdout.write(f"losses {losses}\n")
