"""A rank of a job over gloo with three groups: prints whom our directory says each connection leads to.

Says so once every rank has seen all of its peers, and stays until its standard input closes, so that the test can
look at the sockets' owners from outside.
"""

import json
import os
import sys
import time
import weakref
from functools import partial

import torch
import torch.distributed as dist

from otel_netmon import semconv
from otel_netmon.job.directory import StoreDirectory
from otel_netmon.job.store import store_of
from otel_netmon.monitors import PeerLatencyMonitor
from otel_netmon.monitors.own_sockets import OwnSockets

dist.init_process_group("gloo")
rank, size = dist.get_rank(), dist.get_world_size()
groups = [dist.new_group(list(range(size))), dist.new_group(list(range(0, size, 2)))]
tensor = torch.ones(1000)
dist.all_reduce(tensor)
for group in groups:
    if rank in dist.get_process_group_ranks(group) and dist.get_rank(group) >= 0:
        dist.all_reduce(tensor, group=group)
directory = StoreDirectory(partial(store_of, weakref.ref(dist.group.WORLD)), rank, size)
sockets = OwnSockets()
known = {}
for _ in range(40):
    own = sockets.connections()
    known = directory.exchange(list(own))
    time.sleep(0.25)
    if len(known) == len(own):
        break
latency = PeerLatencyMonitor(directory=directory, most=2, attempts=3, timeout=1.0)
rounds = []
for _ in range(4):
    latency.run_once()
    rounds.append(
        [[metric.name, attributes[semconv.PEER_ADDRESS], value] for metric, value, attributes in latency.points()]
    )
print(
    json.dumps(
        {
            "pid": os.getpid(),
            "rank": rank,
            "own": len(own),
            "rounds": rounds,
            "hosts": [list(host) for host in directory.some_hosts(16)],
            "known": [[*c.local, *c.remote, peer.rank, peer.host, peer.is_store] for c, peer in known.items()],
        }
    ),
    flush=True,
)
sys.stdin.read()
os._exit(0)
