"""The kernel's counts, pressure and quotas: from trees of files, and from the machine at hand."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_netmon.monitors import KernelNetworkMonitor, Monitor, PressureMonitor, ProcessPressureMonitor, protocols

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads the /proc of Linux")

SNMP = b"""Tcp: RtoAlgorithm MaxConn InSegs OutSegs RetransSegs InErrs
Tcp: 1 -1 100 90 7 1
Udp: InDatagrams RcvbufErrors SndbufErrors
Udp: 5 2 0
"""
NETSTAT = b"""TcpExt: SyncookiesSent TCPTimeouts TCPOFOQueue ListenDrops
TcpExt: 0 3 4 5
"""


def values(monitor: Monitor) -> dict[str, dict[tuple[str, ...], float]]:
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for metric, value, attributes in monitor.points():
        key = tuple(str(one) for one in attributes.values())
        found.setdefault(metric.name.removeprefix("otel_netmon."), {})[key] = value
    return found


def write(root: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.fixture
def host(tmp_path: Path) -> Path:
    write(
        tmp_path,
        {
            "proc/1/net/snmp": SNMP,
            "proc/1/net/netstat": NETSTAT,
            "proc/1/net/softnet_stat": "fffffff0 00000001 00000002 0 0\n00000010 00000000 00000000 0 0\n",
            "sys/class/net/eth0/device/vendor": "0x15b3\n",
            "sys/class/net/eth0/statistics/rx_crc_errors": "3\n",
            "sys/class/net/eth0/statistics/rx_missed_errors": "9\n",
            "sys/class/net/eth0/carrier_changes": "2\n",
            "sys/class/net/eth0/queues/tx-0/tx_timeout": "1\n",
            "sys/class/net/eth0/queues/tx-1/tx_timeout": "4\n",
            "sys/class/net/veth0/statistics/rx_crc_errors": "7\n",
            "sys/class/net/veth0/carrier_changes": "7\n",
        },
    )
    return tmp_path


def test_the_protocols_and_the_faults_of_physical_nics(host: Path) -> None:
    monitor = KernelNetworkMonitor(proc_root=host / "proc", sys_root=host / "sys")
    assert values(monitor) == {}
    assert monitor.run_once()
    found = values(monitor)
    assert found["host.tcp.segments"] == {("receive",): 100, ("transmit",): 90}
    assert found["host.tcp.retransmits"] == {(): 7}
    assert found["host.tcp.timeouts"] == {(): 3}
    assert found["host.tcp.out_of_order"] == {(): 4}
    assert found["host.tcp.listen_drops"] == {(): 5}
    assert found["host.udp.buffer_errors"] == {("receive",): 2, ("transmit",): 0}
    assert found["nic.faults"] == {
        ("eth0", "rx_crc_errors"): 3, ("eth0", "rx_missed_errors"): 9, ("eth0", "tx_timeout"): 5,
    }  # fmt: skip
    assert found["nic.carrier_changes"] == {("eth0",): 2}
    assert "host.ip.discards" not in found  # this kernel does not say


def test_softnet_counts_on_over_the_wrap_of_32_bits(host: Path) -> None:
    monitor = KernelNetworkMonitor(proc_root=host / "proc", sys_root=host / "sys")
    assert monitor.run_once()
    assert values(monitor)["host.softnet.processed"] == {(): 0xFFFFFFF0 + 0x10}
    write(host, {"proc/1/net/softnet_stat": "00000010 00000001 00000003 0 0\n00000030 00000000 00000000 0 0\n"})
    assert monitor.run_once()
    found = values(monitor)
    assert found["host.softnet.processed"] == {(): 0xFFFFFFF0 + 0x10 + 0x20 + 0x20}
    assert found["host.softnet.dropped"] == {(): 1}
    assert found["host.softnet.squeezed"] == {(): 3}
    write(host, {"proc/1/net/softnet_stat": ""})
    assert monitor.run_once()
    assert "host.softnet.processed" not in values(monitor)


def test_a_host_without_any_of_it_is_no_failure(tmp_path: Path) -> None:
    for monitor in (
        KernelNetworkMonitor(proc_root=tmp_path, sys_root=tmp_path),
        PressureMonitor(proc_root=tmp_path),
        ProcessPressureMonitor(proc_root=tmp_path, sys_root=tmp_path),
    ):
        assert monitor.run_once()
        assert values(monitor) == {}


def test_pressure_of_the_host(tmp_path: Path) -> None:
    line = "{} avg10=1.00 avg60=0.00 avg300=0.00 total={}\n"
    cpu = "cpu0 0 0 0 0 0 0 5 2000000000 9\ndomain0 03 1 2\ncpu1 0 0 0 0 0 0 5 1000000000 9\n"
    write(
        tmp_path,
        {
            "pressure/cpu": line.format("some", 1_500_000) + line.format("full", 0),
            "pressure/io": line.format("some", 2_000_000),
            "schedstat": "version 15\ntimestamp 1\n" + cpu,
        },
    )
    monitor = PressureMonitor(proc_root=tmp_path)
    assert monitor.run_once()
    stalled = values(monitor)["pressure.stall.time"]
    assert stalled == {("cpu", "some"): 1.5, ("cpu", "full"): 0.0, ("io", "some"): 2.0}
    assert values(monitor)["host.run_queue.time"] == {(): pytest.approx(3.0)}


V2 = {
    "proc/self/cgroup": "0::/kubepods/pod1/c1\n",
    "sys/fs/cgroup/kubepods/pod1/c1/cpu.stat": "usage_usec 5\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n",
    "sys/fs/cgroup/kubepods/pod1/c1/cpu.max": "max 100000\n",
    "sys/fs/cgroup/kubepods/pod1/c1/memory.pressure": "some avg10=0.00 total=250000\n",
    "sys/fs/cgroup/kubepods/pod1/cpu.stat": "nr_periods 40\nnr_throttled 10\nthrottled_usec 2500000\n",
    "sys/fs/cgroup/kubepods/pod1/cpu.max": "150000 100000\n",
}
V1 = {
    "proc/self/cgroup": "4:cpu,cpuacct:/docker/abc\n3:memory:/docker/abc\n0::/\n",
    "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.stat": "nr_periods 40\nnr_throttled 10\nthrottled_time 2500000000\n",
    "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "150000\n",
    "sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
}


@pytest.mark.parametrize("files", [V2, V1], ids=["version 2, quota above", "version 1"])
def test_quotas_of_a_cgroup(files: dict[str, str], tmp_path: Path) -> None:
    write(tmp_path, dict(files))
    monitor = ProcessPressureMonitor(proc_root=tmp_path / "proc", sys_root=tmp_path / "sys")
    assert monitor.run_once()
    found = values(monitor)
    assert found["cgroup.throttled.time"] == {(): 2.5}
    assert found["cgroup.periods"] == {(): 40}
    assert found["cgroup.throttled.periods"] == {(): 10}
    assert found["cgroup.cpu.limit"] == {(): 1.5}
    if files is V2:
        assert found["cgroup.stall.time"] == {("memory", "some"): 0.25}


def test_the_run_queue_keeps_what_ended_threads_waited(tmp_path: Path) -> None:
    tasks = tmp_path / "self" / "task"
    write(tmp_path, {"self/task/1/schedstat": "9 1000000000 3", "self/task/2/schedstat": "9 2000000000 3"})
    monitor = ProcessPressureMonitor(proc_root=tmp_path, sys_root=tmp_path)
    assert monitor.run_once()
    assert values(monitor)["process.run_queue.time"] == {(): pytest.approx(3.0)}
    (tasks / "2" / "schedstat").unlink()
    (tasks / "2").rmdir()
    write(tmp_path, {"self/task/1/schedstat": "9 1500000000 3"})
    assert monitor.run_once()
    assert values(monitor)["process.run_queue.time"] == {(): pytest.approx(3.5)}


@LINUX
@pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="a kernel built without CONFIG_SCHED_INFO")
def test_a_busy_machine_is_seen_in_this_process_run_queue() -> None:
    """More busy processes than CPUs: this one has to wait, and its monitor says for how long."""
    monitor = ProcessPressureMonitor()
    assert monitor.run_once()
    before = values(monitor)["process.run_queue.time"][()]
    cpus = len(os.sched_getaffinity(0))
    children = []
    for _ in range(2 * cpus):
        child = os.posix_spawn(sys.executable, [sys.executable, "-c", _BUSY], dict(os.environ))
        children.append(child)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        pass
    assert monitor.run_once()
    waited = values(monitor)["process.run_queue.time"][()] - before
    for child in children:
        os.waitpid(child, 0)
    assert 0.1 < waited < 30


_BUSY = "import time; end = time.monotonic() + 2\nwhile time.monotonic() < end: pass"


@LINUX
def test_against_the_files_of_this_machine() -> None:
    """Each count lies between what a plain reading of the file gives before and after."""

    def plain() -> dict[str, int]:
        lines = Path("/proc/net/snmp").read_text().splitlines()
        names, numbers = (line.split() for line in lines if line.startswith("Tcp:"))
        return {name: int(number) for name, number in zip(names[1:], numbers[1:], strict=True)}

    monitor = KernelNetworkMonitor()
    before = plain()
    assert monitor.run_once()
    after = plain()
    ours = {name.removeprefix("host.tcp."): series for name, series in values(monitor).items()}
    for name, value in {
        "InSegs": ours["segments"][("receive",)],
        "OutSegs": ours["segments"][("transmit",)],
        "RetransSegs": ours["retransmits"][()],
        "InErrs": ours["errors"][()],
    }.items():
        assert before[name] <= value <= after[name]


@given(
    st.binary(max_size=2000)
    | st.text(alphabet="Tcp: 0123456789\n-=xtotalsomefull_", max_size=2000).map(str.encode)
)
@settings(max_examples=EXAMPLES, deadline=None)
def test_no_bytes_make_a_parser_raise(data: bytes) -> None:
    assert len(protocols.parse_snmp(data)) <= len(data)
    assert all(min(row.processed, row.dropped, row.squeezed) >= 0 for row in protocols.parse_softnet(data))
    assert set(protocols.parse_pressure(data)) <= {"some", "full"}
    protocols.parse_schedstat(data)
    protocols.parse_task_schedstat(data)
    assert all(path.startswith("/") for path in protocols.parse_cgroups(data).values())
    protocols.parse_cpu_stat(data)
    limit = protocols.parse_cpu_max(data)
    assert limit is None or limit > 0
