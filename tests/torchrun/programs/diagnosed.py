"""Three ranks that train for some seconds; one of them is slow, or hangs once, or the job's store dies meanwhile.

``diagnosed.py FOLDER FAULT SECONDS``. All ranks stop after the same step: after so many seconds, or a few after
one of them has told who is to blame.
"""

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist

STORE = """
import sys, time, torch.distributed as dist
store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
print(store.port, flush=True)
time.sleep(120)
"""

AFTER = 7.0
"""Seconds from the verdict to the end: what stands is told as metrics, too, which go out every 5 s."""


class Told(logging.Handler):
    """Hears of the verdict."""

    at = float("inf")

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.WARNING and "otel-netmon: Rank" in record.getMessage():
            self.at = min(self.at, time.monotonic())


told = Told()
logging.getLogger("otel_netmon").addHandler(told)
logging.getLogger("otel_netmon").addHandler(logging.StreamHandler())
folder, fault, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
server = None
if fault == "no tcp store":
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=size)
elif fault == "store dies":
    place = folder / "port"
    if rank == 0:
        server = subprocess.Popen([sys.executable, "-c", STORE], stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        (folder / "draft").write_text(server.stdout.readline())
        (folder / "draft").rename(place)
    while not place.exists():
        time.sleep(0.02)
    own = dist.TCPStore("127.0.0.1", int(place.read_text()), is_master=False, wait_for_workers=False)
    dist.init_process_group("gloo", store=own, rank=rank, world_size=size)
else:
    port = int(os.environ["MASTER_PORT"])
    shared = dist.TCPStore(os.environ["MASTER_ADDR"], port, is_master=False, wait_for_workers=False)
    store = dist.PrefixStore(f"attempt {attempt}", shared)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size)

model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(64, 64))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
begun, number = time.monotonic(), 0
going = torch.ones(1)
while going:
    time.sleep(0.04 if rank == 1 and fault in ("slow", "restart") and attempt == (fault == "restart") else 0.01)
    if fault == "hang" and rank == 2 and number == 100:
        time.sleep(9)
    if server is not None and number == 50:
        server.kill()
        server.wait()
    model(torch.ones(8, 64)).sum().backward()
    optimizer.step()
    number += 1
    end = begun + (1 if fault == "restart" and attempt == 0 else seconds)
    going[0] = time.monotonic() < min(end, told.at + AFTER)
    dist.all_reduce(going, op=dist.ReduceOp.MIN)
if fault == "restart" and attempt == 0:
    dist.barrier()
    os._exit(7)
(folder / f"{rank}.json").write_text(str(number))
dist.destroy_process_group()
