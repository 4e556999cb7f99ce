"""One rank of a training over gloo: DDP, a small all_reduce per step, and the faults that come from inside.

``LAB_JOB`` is JSON; see ``DEFAULTS``. What happens is told in JSON lines on stdout, so that the lab knows when a
step begins.
"""

import gc
import json
import os
import random
import signal
import sys
import time
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

DEFAULTS = {
    "steps": 70, "width": 400, "layers": 5, "bucket_mb": 1.3, "batch": 16,
    "compute_ms": 25.0, "varies": 0.1, "vary_by_rank": False, "growth": 0.0, "seed": 1,
    "workers": 0, "data_ms": 2.0, "micro_steps": 1, "evaluate": "", "checkpoint": 0, "pairs": False,
    "collect_every": 0, "timeout": 10.0, "faults": [],
}  # fmt: skip
"""Milliseconds where it says so. ``varies``: share by which a step's compute varies. ``growth``: of it, per step.
``evaluate``: "all" or "0", who does, every 20 steps. ``checkpoint``: every so many steps rank 0 writes one.
``pairs``: two ranks each have a group of their own besides. ``collect_every``: each rank collects garbage every so
many steps, at a step of its own. ``faults``: each a kind, the rank, its first step, and what it needs."""

job: dict[str, Any] = {**DEFAULTS, **json.loads(os.environ["LAB_JOB"])}
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
mine = [fault for fault in job["faults"] if fault["rank"] == rank]


def say(**what: Any) -> None:
    print(json.dumps({**what, "at": time.time_ns()}), flush=True)


def active(step: int, *kinds: str) -> list[dict[str, Any]]:
    return [fault for fault in mine if fault["kind"] in kinds and step >= fault["from"]]


class Batches(Dataset):  # type: ignore[type-arg,misc,unused-ignore]  # Any, where torch is not followed
    """One batch for each step."""

    def __len__(self) -> int:
        return int(job["steps"])

    def __getitem__(self, step: int) -> torch.Tensor:
        late = sum(fault["ms"] for fault in active(step, "data"))
        time.sleep((job["data_ms"] + late) / 1e3)
        return torch.randn(job["batch"], job["width"], generator=torch.Generator().manual_seed(step))


class Pausing(torch.autograd.Function):  # type: ignore[misc,unused-ignore]  # the same
    """Nothing on the way there; a pause of so many seconds on the way back."""

    @staticmethod
    def forward(ctx: Any, given: torch.Tensor, seconds: float) -> torch.Tensor:
        ctx.seconds = seconds
        return given.view_as(given)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        time.sleep(ctx.seconds)
        return gradient, None


class Model(nn.Module):  # type: ignore[misc,unused-ignore]  # the same
    """Some layers; the pause is in the middle of backward, when the first buckets have left."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(job["width"], job["width"]) for _ in range(job["layers"]))
        self.pause = 0.0

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        for number, layer in enumerate(self.layers):
            if number == 1:
                given = Pausing.apply(given, self.pause)
            given = torch.relu(layer(given))
        return given


class Training:
    def __init__(self) -> None:
        torch.manual_seed(0)
        torch.set_num_threads(1)
        self.model = Model()
        self.ddp = DistributedDataParallel(self.model, bucket_cap_mb=job["bucket_mb"])
        self.optimizer = torch.optim.SGD(self.ddp.parameters(), lr=1e-3)
        self.pair = None
        for first in range(0, size, 2) if job["pairs"] else ():
            group = dist.new_group([first, first + 1])
            self.pair = group if rank in (first, first + 1) else self.pair
        self.heap: list[list[int]] = []
        self.step = 0

    def run(self) -> None:
        loader = DataLoader(Batches(), batch_size=None, num_workers=job["workers"])
        for step, batch in enumerate(loader):
            self.step = step
            say(step=step)
            if any(fault["from"] == step for fault in mine):
                say(onset=step)
            self.end_suddenly(step)
            for micro in range(job["micro_steps"]):
                is_last = micro == job["micro_steps"] - 1
                with nullcontext() if is_last else self.ddp.no_sync():
                    self.forward_and_backward(step, batch)
            if not active(step, "desync_skip") or step > active(step, "desync_skip")[0]["from"]:
                dist.all_reduce(torch.ones(1))
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.between(step)

    def forward_and_backward(self, step: int, batch: torch.Tensor) -> None:
        time.sleep(self.compute(step))
        if self.pair is not None:
            dist.all_reduce(torch.ones(150_000), group=self.pair)
        self.model.pause = sum(fault["ms"] for fault in active(step, "late_bucket")) / 1e3
        loss = self.ddp(batch).square().mean()
        self.be_late(step)
        self.go_another_way(step)
        loss.backward()

    def compute(self, step: int) -> float:
        common = random.Random(f"{job['seed']} {step}")
        factor = 1 + job["varies"] * (2 * common.random() - 1) + job["growth"] * step
        if job["vary_by_rank"]:
            factor *= random.Random(f"{job['seed']} {step} {rank}").uniform(0.6, 1.4)
        seconds: float = job["compute_ms"] / 1e3 * factor / job["micro_steps"]
        return seconds

    def be_late(self, step: int) -> None:
        for fault in active(step, "straggler"):
            time.sleep(fault["ms"] / 1e3)
        for fault in active(step, "stall"):
            if (step - fault["from"]) % fault["every"] == 0:
                time.sleep(fault["ms"] / 1e3)
        for fault in active(step, "gc"):
            self.heap = self.heap or [[number] for number in range(fault["objects"])]
            if (step - fault["from"]) % fault["every"] == 0:
                gc.collect()
        if active(step, "hang"):
            time.sleep(1e6)

    def go_another_way(self, step: int) -> None:
        for fault in active(step, "desync_op", "desync_size"):
            if step == fault["from"]:
                if fault["kind"] == "desync_op":
                    dist.broadcast(torch.ones(1000), src=rank)
                else:
                    dist.all_reduce(torch.ones(1000))

    def end_suddenly(self, step: int) -> None:
        if active(step, "kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if active(step, "exit"):
            os._exit(3)
        if active(step, "exception"):
            raise ValueError("a batch that cannot be used")

    def between(self, step: int) -> None:
        if job["evaluate"] and step % 20 == 19 and job["evaluate"] in ("all", str(rank)):
            with torch.no_grad():
                for _ in range(8):
                    self.model(torch.ones(256, job["width"]))
                    time.sleep(0.04)
        if job["checkpoint"] and step % job["checkpoint"] == job["checkpoint"] - 1 and rank == 0:
            torch.save(self.model.state_dict(), f"{os.environ['LAB_SCRATCH']}/checkpoint")
            time.sleep(0.2)
        if job["collect_every"] and step % job["collect_every"] == (3 * rank) % job["collect_every"]:
            self.heap = self.heap or [[number] for number in range(200_000)]
            gc.collect()


def main() -> None:
    say(pid=os.getpid())
    from datetime import timedelta

    dist.init_process_group("gloo", timeout=timedelta(seconds=job["timeout"]))
    training = Training()
    try:
        training.run()
    except BaseException as error:
        say(error=[type(error).__name__, str(error)[:300], training.step])
        raise
    dist.destroy_process_group()
    say(done=training.step + 1)


if __name__ == "__main__":
    main()
    sys.stdout.flush()
