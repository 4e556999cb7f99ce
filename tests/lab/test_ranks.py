"""Which ranks a socket joins: 4 hosts of 2 ranks, three groups, against the owners that the kernel names."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from otel_netmon import semconv

from . import net
from .conftest import Agree
from .net import LabHost

pytest.importorskip("torch", reason="needs torch: make test installs it")

HOSTS, PER_HOST, PORT = 4, 2, 29500

End = tuple[str, int]


def connections(host: LabHost) -> list[tuple[End, End, int]]:
    """Every established connection of a host with the process that owns it, as ``ss`` has it from /proc/PID/fd."""
    found = []
    for line in host.run("ss", "-tnpHO", "state", "established").splitlines():
        columns = line.split()
        owner = re.search(r"pid=(\d+)", line)
        if owner:
            found.append((end(columns[2]), end(columns[3]), int(owner[1])))
    return found


def end(text: str) -> End:
    address, _, port = text.rpartition(":")
    return address.strip("[]").removeprefix("::ffff:"), int(port)


def values(points: list[tuple[str, str, float]], metric: str) -> dict[str, float]:
    """By address."""
    return {address: value for name, address, value in points if name == metric}


@pytest.mark.timeout(300)
def test_the_map_of_ranks_and_sockets(agree: Agree) -> None:
    with net.hosts(HOSTS) as hosts:
        started = []
        for number, host in enumerate(hosts):
            for local in range(PER_HOST):
                env = {
                    "MASTER_ADDR": hosts[0].address, "MASTER_PORT": str(PORT), "GLOO_SOCKET_IFNAME": host.nic,
                    "RANK": str(number * PER_HOST + local), "LOCAL_RANK": str(local),
                    "WORLD_SIZE": str(HOSTS * PER_HOST), "OMP_NUM_THREADS": "1",
                }  # fmt: skip
                started.append((host, host.program("rank.py", env=env)))
        said: list[tuple[LabHost, dict[str, Any]]] = []
        for host, process in started:
            assert process.stdout is not None and process.stderr is not None
            line = process.stdout.readline()
            assert line, process.stderr.read()[-4000:]
            said.append((host, json.loads(line)))
        rank_of = {one["pid"]: one["rank"] for _, one in said}
        owners: dict[tuple[End, End], int] = {}
        for host in hosts:
            for near, far, pid in connections(host):
                owners[near, far] = rank_of[pid]
        checked = 0
        for host, one in said:
            ours = {((a, b), (c, d)): rank for a, b, c, d, rank, _, is_store in one["known"] if not is_store}
            store = {((a, b), (c, d)) for a, b, c, d, _, _, is_store in one["known"] if is_store}
            mine = {key for key, rank in owners.items() if rank == one["rank"]}
            assert {key for key in mine if PORT in (key[0][1], key[1][1])} == store
            assert ours == {key: owners[key[1], key[0]] for key in mine - store}
            checked += len(ours)
            assert {address for _, address in one["hosts"]} == {h.address for h in hosts if h is not host}
            # two hosts per round, another two the next time: all are reached, and none is this one's
            others = {h.address for h in hosts if h is not host}
            lost = [values(each, semconv.PEER_LATENCY_LOSS.name) for each in one["rounds"]]
            assert all(len(each) <= 2 and set(each.values()) == {0} for each in lost)
            assert set().union(*lost) == others
            # nobody has asked for the shortest times yet: they are kept
            shortest = values(one["rounds"][-1], semconv.PEER_LATENCY_MIN.name)
            assert set(shortest) == others and 0 < min(shortest.values()) <= max(shortest.values()) < 1
        # gloo joins each pair of a group's ranks: 8 of the world, 8 of the second group, 4 of the third
        expected = 2 * (28 + 28 + 6)
        agree("rank pairs by socket", checked, "/proc/PID/fd", expected, 0)
