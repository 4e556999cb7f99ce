"""Forks the ranks of jobs from one process that has torch imported: seconds of each rank's time otherwise.

Reads a job per line from stdin, runs it to its end and answers with its exit code. The ranks find what torchrun
would give them: its variables, and its store, which outlives them. How ranks come about in earnest is not seen
here; for that there is ``harness.torchrun``.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import signal
import socket
import sys
import uuid
from typing import Any

# What the programs use of torch, and what torch imports of itself at the first optimizer or compiled graph.
# Nothing of ours: each rank has that to itself. None of it starts a thread, or forking would not be safe.
import torch
import torch._dynamo
import torch._inductor.compile_fx
import torch.distributed as dist
import torch.distributed.fsdp
import torch.distributed.optim
import torch.distributed.pipelining
import torch.distributed.tensor.parallel  # noqa: F401  # imported for the programs, which are forked


def main() -> None:
    assert len(os.listdir("/proc/self/task")) == 1
    gc.freeze()  # or each rank takes a second at its end to see that all of torch is still needed
    while line := sys.stdin.readline():
        child = os.fork()
        if child == 0:
            launch(json.loads(line))
            return  # a rank, which ends as any interpreter does
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()


def launch(job: dict[str, Any]) -> None:
    """Run the job's ranks and exit; in each rank, return when its program is through."""
    os.setsid()
    for source, flags, targets in ((os.devnull, os.O_RDONLY, (0,)), (job["output"], os.O_WRONLY, (1, 2))):
        opened = os.open(source, flags | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        for target in targets:
            os.dup2(opened, target)
        os.close(opened)
    server = socket.create_server(("127.0.0.1", 0))
    address, port = server.getsockname()
    ranks = job["ranks"]
    os.environ.clear()
    os.environ.update(
        job["environ"],
        **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE", "ROLE_WORLD_SIZE"), str(ranks)),
        **dict.fromkeys(("GROUP_RANK", "TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS"), "0"),
        MASTER_ADDR=address,
        MASTER_PORT=str(port),
        TORCHELASTIC_RUN_ID=str(uuid.uuid4()),
        TORCHELASTIC_USE_AGENT_STORE="True",
    )
    children = set()
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            server.close()
            os.environ.update(dict.fromkeys(("RANK", "LOCAL_RANK", "ROLE_RANK"), str(rank)))
            dist.set_debug_level_from_env()  # which torch read when it was imported
            sys.argv = job["command"]
            runpy.run_path(sys.argv[0], run_name="__main__")
            return
        children.add(child)
    # Its threads come after the forks; until then the ranks' connections wait in the socket's queue.
    store = dist.TCPStore(address, port, is_master=True, wait_for_workers=False, master_listen_fd=server.detach())
    code = 0
    while children:
        child, status = os.wait()
        children.remove(child)
        if status and not code:
            code = 1
            for other in children:
                os.kill(other, signal.SIGTERM)
    del store
    os._exit(code)


if __name__ == "__main__":
    main()
