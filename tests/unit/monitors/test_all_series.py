"""Every series of the monitors beside the first five, with its attributes: held to one golden file."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from otel_netmon import semconv
from otel_netmon.job.peers import Peer, PeerTrafficBuffer
from otel_netmon.monitors import (
    KernelNetworkMonitor,
    PeerLatencyMonitor,
    PressureMonitor,
    ProcessPressureMonitor,
    RdmaMonitor,
    TcpMonitor,
    icmp,
)
from otel_netmon.monitors.registry import BUILT_IN
from otel_netmon.monitors.tcp_connect import Attempts

from .helpers import FIXTURES, unpack
from .test_kernel import NETSTAT, SNMP, V2, write
from .test_series import Exported, shape
from .test_tcp import InMemoryDirectory, acknowledged
from .test_tcp_sockets import connection, joined
from .test_threads import Peers

GOLDEN = FIXTURES / "all_series.json"
HOST: dict[str, str | bytes] = {
    "proc/1/net/snmp": SNMP + b"Ip: InDiscards OutDiscards\nIp: 1 2\n",
    "proc/1/net/netstat": NETSTAT,
    "proc/1/net/softnet_stat": "00000001 00000001 00000001\n",
    "proc/schedstat": "cpu0 0 0 0 0 0 0 5 2000000000 9\n",
    "proc/self/task/1/schedstat": "9 1000000000 3",
    "sys/class/net/eth0/device/vendor": "0x15b3\n",
    "sys/class/net/eth0/statistics/rx_crc_errors": "3\n",
    "sys/class/net/eth0/carrier_changes": "2\n",
    **{f"proc/pressure/{resource}": "some total=1\nfull total=1\n" for resource in ("cpu", "memory", "io")},
}


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is Linux'")
def test_every_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To renew the file: delete it, run, and read the difference."""
    write(tmp_path, {**HOST, **V2})
    monkeypatch.setattr(icmp, "allowed", lambda: True)
    monkeypatch.setattr(icmp, "ping", lambda hosts, *_: {one: Attempts([0.001], ["timeout"]) for one in hosts})
    proc, sys_root = tmp_path / "proc", tmp_path / "sys"
    directory = InMemoryDirectory()
    exported = Exported()
    with joined() as (near, far):
        directory.peers = {connection(near): Peer(1, "trainer-2"), connection(far): Peer(None, None, True)}
        near.sendall(bytes(1000))
        acknowledged(near)
        monitors = (
            KernelNetworkMonitor(proc_root=proc, sys_root=sys_root),
            PressureMonitor(proc_root=proc),
            ProcessPressureMonitor(proc_root=proc, sys_root=sys_root),
            RdmaMonitor(sys_root=unpack("rdma_mlx5_roce", tmp_path).sys),
            TcpMonitor(directory=directory, readings=PeerTrafficBuffer()),
            PeerLatencyMonitor(directory=Peers()),
        )
        for monitor in monitors:
            monitor.register(exported.meter)
            assert monitor.run_once()
            # rates need a second sample; round-trip times are there only after traffic
            assert monitor.name == "tcp" or monitor.run_once()
        far.recv(1000)
        found = [shape(metric) for metric in exported.metrics()]
    if not GOLDEN.exists():
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
        pytest.fail(f"{GOLDEN} was missing and is written anew")
    assert found == json.loads(GOLDEN.read_text())
    declared = {metric.name: metric for metric in semconv.METRICS}
    for metric in found:
        said = declared[metric["name"]]
        assert (metric["unit"], metric["kind"]) == (said.unit, said.kind.removeprefix("observable_"))
        assert all(set(attributes) <= set(said.attributes) for attributes in metric["attributes"])


def test_no_built_in_monitor_is_without_a_golden_entry() -> None:
    health = semconv.MONITOR_SUCCESS.name
    named = set()
    for file in ("series.json", "all_series.json"):
        for metric in json.loads((FIXTURES / file).read_text()):
            if metric["name"] == health:
                named |= {attributes[semconv.MONITOR_NAME] for attributes in metric["attributes"]}
    assert {one.name for one in BUILT_IN} <= named
