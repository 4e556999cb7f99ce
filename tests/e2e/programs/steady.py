"""Collectives at a steady pace: RATE a second on each rank, for SECONDS, in steps of 50; says what it made."""

from __future__ import annotations

import json
import os
import sys
import time

import torch
import torch.distributed as dist

import otel_netmon

rate, seconds = float(sys.argv[1]), float(sys.argv[2])
torch.set_num_threads(1)
dist.init_process_group("gloo")
tensor = torch.ones(16)
# Groups of one rank: five hundred calls a second of all four would take more than two cores.
own = [dist.new_group([rank]) for rank in range(dist.get_world_size())][dist.get_rank()]
calls, steps = 0, []
start = time.monotonic()
deadline = torch.tensor([0.0])
while True:
    since = time.time()
    busy = 0.0
    with otel_netmon.step():
        before = time.monotonic()
        dist.all_reduce(tensor)
        for _ in range(48):
            dist.all_reduce(tensor, group=own)
        busy += time.monotonic() - before
        calls += 49
        late = start + calls / rate - time.monotonic()
        if late > 0:
            time.sleep(late)
        deadline.fill_(time.monotonic() - start)
        dist.broadcast(deadline, 0)  # all end together
        calls += 1
    steps.append((since, busy))
    if deadline.item() > seconds:
        break
dist.destroy_process_group()
with open(os.path.join(sys.argv[3], f"rank{os.environ['RANK']}.json"), "w") as file:
    json.dump({"calls": calls, "steps": steps, "end": time.time()}, file)
