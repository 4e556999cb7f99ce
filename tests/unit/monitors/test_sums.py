"""Sums over sets that change: whoever comes, goes, is reset or takes another's name, no total falls or leaps."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_netmon.monitors import (
    KernelNetworkMonitor,
    Monitor,
    NetworkInterfaceMonitor,
    PressureMonitor,
    ProcessPressureMonitor,
    RdmaMonitor,
    sums,
)
from otel_netmon.monitors.sums import MemberDeltas, MemberTotals

from .helpers import Clock, FakeSource, counters, nic, unpack
from .test_kernel import values, write

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))


@dataclass
class Cpus:
    """CPUs that go offline with their count, and come back with it; and what they counted since the start."""

    counts: dict[int, int]
    online: set[int]
    truth: int = 0
    numbers: random.Random = field(default_factory=lambda: random.Random(7))

    def step(self) -> None:
        for one in sorted(self.online):
            moved = self.numbers.randrange(1 << 20)
            self.counts[one] += moved
            self.truth += moved


@given(st.lists(st.sets(st.integers(0, 5), min_size=1), min_size=2, max_size=12))
@settings(max_examples=EXAMPLES, deadline=None)
def test_a_sum_has_all_that_was_counted_since_the_first_reading(online: list[set[int]]) -> None:
    """But for what a member had before it was seen: that may be years old."""
    total = MemberTotals()
    cpus = Cpus(dict.fromkeys(range(6), 1 << 40), online[0])
    first = total.add("all", {one: cpus.counts[one] for one in cpus.online})
    assert first == len(online[0]) << 40
    seen, missed = set(online[0]), 0
    for now in online[1:]:
        cpus.online = now
        before = dict(cpus.counts)
        cpus.step()
        missed += sum(cpus.counts[one] - before[one] for one in now - seen)
        seen |= now
        assert total.add("all", {one: cpus.counts[one] for one in now}) == first + cpus.truth - missed


def test_a_member_that_was_reset_counts_from_zero() -> None:
    total = MemberTotals()
    assert [total.add("k", {"a": count, "b": 5}) for count in (100, 130, 4, 10)] == [105, 135, 139, 145]


def test_a_count_of_32_bits_wraps_and_a_reset_is_no_wrap() -> None:
    members = MemberDeltas(wrap=1 << 32)
    assert members.moved({0: 0xFFFFFFF0, 1: 1000}) == {0: 0xFFFFFFF0, 1: 1000}
    assert members.moved({0: 0x10, 1: 3}) == {0: 0x20, 1: 3}
    assert members.moved({0: 0xFFFFFFF0, 1: 3}) == {0: 0xFFFFFFE0, 1: 0}
    assert members.moved({1: 4}) == {1: 1}
    assert members.moved({0: 0x8, 1: 4}) == {0: 0x8, 1: 0}  # away it did not count, and cannot have wrapped


def test_what_takes_a_name_over_is_neither_a_fall_nor_a_leap() -> None:
    total = MemberTotals(heirs=True)
    assert total.add("eth0", {2: 1000}) == 1000
    assert total.add("eth0", {7: 10}) == 1010  # made anew
    assert total.add("eth0", {9: 5_000_000}) == 1010  # another, that had counted for long
    assert total.add("eth0", {9: 5_000_001}) == 1011


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sums, "_MOST", 10)
    monkeypatch.setattr(sums, "_MOST_GONE", 10)
    total, members = MemberTotals(), MemberDeltas()
    for number in range(1000):
        for name in ("always", f"veth{number}"):
            total.add(name, {number: 1})
        total.trim()
        members.moved({number: 1, "always": number})
    assert len(total._sums) <= 12 and len(members._last) <= 12
    assert total.add("always", {"x": 9}) == 1  # what is there at each reading is never forgotten
    assert members.moved({"always": 1001}) == {"always": 2}


# --- CPUs ---------------------------------------------------------------------------------------------------


def softnet(cpus: dict[int, tuple[int, int, int]], *, numbered: bool) -> str:
    end = " 00000000" * 9
    return "".join(
        "{:08x} {:08x} {:08x}".format(*counts) + (f"{end} {cpu:08x} 0 0\n" if numbered else " 0 0 0 0 0 0 0 0\n")
        for cpu, counts in cpus.items()
    )


@pytest.mark.parametrize("how", ["numbered", "by the list of those online", "not at all"])
def test_softnet_over_cpus_that_go_offline_and_come_back(how: str, tmp_path: Path) -> None:
    """CPU 1 goes for one reading; then CPU 0 does: as many lines as before, of other CPUs."""
    monitor = KernelNetworkMonitor(proc_root=tmp_path / "proc", sys_root=tmp_path / "sys")

    def processed(cpus: dict[int, int]) -> float:
        rows = {cpu: (count, 0, 1) for cpu, count in cpus.items()}
        write(tmp_path, {"proc/1/net/softnet_stat": softnet(rows, numbered=how == "numbered")})
        if how == "by the list of those online":
            write(tmp_path, {"sys/devices/system/cpu/online": ",".join(map(str, cpus)) + "\n"})
        assert monitor.run_once()
        return values(monitor)["host.softnet.processed"][()]

    first = processed({0: 100, 1: 5000, 2: 7})
    found = [
        processed(cpus)
        for cpus in (
            {0: 110, 2: 8},
            {1: 5000, 2: 9},
            {0: 130, 1: 5001, 2: 10},
            {0: 131, 1: 5001, 2: 10, 3: 90_000},
        )
    ]
    exact = [first + 11, first + 12, first + 34, first + 35]
    if how == "not at all":
        # by position at most: it never falls, and never by more than lies between any two CPUs
        assert found == sorted(found) and found[-1] <= first + 5000
    else:
        assert found == exact


def test_the_hosts_run_queue_over_cpus_that_go_offline(tmp_path: Path) -> None:
    monitor = PressureMonitor(proc_root=tmp_path)

    def waited(cpus: dict[int, int]) -> float:
        lines = [f"cpu{cpu} 0 0 0 0 0 0 5 {seconds}000000000 9\n" for cpu, seconds in cpus.items()]
        write(tmp_path, {"schedstat": "version 15\n" + "".join(lines)})
        assert monitor.run_once()
        return values(monitor)["host.run_queue.time"][()]

    found = [waited(cpus) for cpus in ({0: 2, 1: 50}, {0: 3}, {0: 4, 1: 51}, {0: 4, 1: 51, 2: 900})]
    assert found == pytest.approx([52, 53, 55, 55])


# --- NICs and their queues ----------------------------------------------------------------------------------


def read(monitor: Monitor, name: str, *key: str) -> float | None:
    for metric, value, attributes in monitor.points():
        if metric.name == name and set(key) <= set(map(str, attributes.values())):
            return value
    return None


def test_a_nics_series_goes_on_where_it_was_made_anew() -> None:
    clock, source = Clock(), FakeSource()
    monitor = NetworkInterfaceMonitor(source=source, clock=clock)
    found, kernels = [], []
    for index, received in (
        (2, 1000),
        (2, 1500),
        (7, 40),
        (7, 50),
        (None, 60),
        (7, 70),
        (8, 9_000_000),
        (8, 9_000_001),
    ):
        clock.now += 10
        source.nics = [nic(index=index, counters=counters(received, 0))]
        assert monitor.run_once()
        kernels.append(monitor.latest["eth0"].bytes_received)
        found.append(read(monitor, "system.network.io", "receive"))
    assert found == [1000, 1500, 1540, 1550, 1550, 1570, 1570, 1571]
    assert kernels[2] == 40  # by hand one gets what the kernel says
    source.nics = []
    assert monitor.run_once()
    assert read(monitor, "system.network.io", "receive") is None  # not there: not told
    source.nics = [nic(index=8, counters=counters(9_000_011, 0))]
    assert monitor.run_once()
    assert read(monitor, "system.network.io", "receive") == 1581


def test_faults_and_queues_of_a_nic_that_changes(tmp_path: Path) -> None:
    monitor = KernelNetworkMonitor(proc_root=tmp_path / "proc", sys_root=tmp_path / "sys")
    nic = tmp_path / "sys/class/net/eth0"

    def faults(index: int, crc: int, queues: dict[int, int]) -> tuple[float | None, float | None]:
        for queue in (0, 1, 2):
            (nic / f"queues/tx-{queue}/tx_timeout").unlink(missing_ok=True)
        write(nic, {"device/vendor": "1", "ifindex": f"{index}\n", "statistics/rx_crc_errors": f"{crc}\n"})
        write(nic, {f"queues/tx-{queue}/tx_timeout": f"{count}\n" for queue, count in queues.items()})
        assert monitor.run_once()
        series = values(monitor)["nic.faults"]
        return series[("eth0", "rx_crc_errors")], series.get(("eth0", "tx_timeout"))

    assert faults(2, 30, {0: 1, 1: 40}) == (30, 41)
    assert faults(2, 31, {0: 2}) == (31, 42)  # fewer queues
    assert faults(2, 31, {0: 2, 1: 41, 2: 500}) == (31, 43)
    assert faults(2, 1, {0: 0, 1: 41, 2: 500}) == (32, 43)  # reset
    assert faults(9, 3, {0: 1, 1: 0, 2: 0})[0] == 32  # another NIC, of unknown age
    assert faults(9, 4, {})[1] is None
    assert faults(9, 4, {0: 2, 1: 0, 2: 0}) == (33, 44)


# --- RDMA ports ---------------------------------------------------------------------------------------------


def test_an_rdma_ports_series_over_resets_and_counters_that_cannot_be_read(tmp_path: Path) -> None:
    tree = unpack("rdma_irdma", tmp_path)
    clock = Clock()
    monitor = RdmaMonitor(sys_root=tree.sys, clock=clock)
    port = tree.sys / "class/infiniband/rocep24s0f0/ports/1/hw_counters"
    guid = tree.sys / "class/infiniband/rocep24s0f0/node_guid"

    def sent(**octets: int) -> tuple[float | None, float | None]:
        for name in ("ip4OutOctets", "ip6OutOctets"):
            (port / name).unlink(missing_ok=True)
            if name in octets:
                (port / name).write_text(f"{octets[name]}\n")
        clock.now += 10
        assert monitor.run_once()
        return read(monitor, "hw.network.io", "rocep24s0f0:1", "transmit"), monitor.latest[
            "rocep24s0f0:1"
        ].transmit_rate

    guid.write_text("0000:0000:0000:0001\n")
    assert sent(ip4OutOctets=1000, ip6OutOctets=70_000) == (71_000, None)
    assert sent(ip4OutOctets=1100, ip6OutOctets=70_000) == (71_100, 10)
    assert sent(ip4OutOctets=1200) == (71_200, None)  # of the other nothing is known
    assert sent(ip4OutOctets=1300, ip6OutOctets=70_500) == (71_800, None)
    assert sent(ip4OutOctets=20, ip6OutOctets=0) == (71_820, None)  # the driver was loaded anew
    guid.write_text("0000:0000:0000:0002\n")
    assert sent(ip4OutOctets=9_000_000, ip6OutOctets=0) == (71_820, None)  # another device, of unknown age
    assert sent(ip4OutOctets=9_000_010, ip6OutOctets=0) == (71_830, 1)


def test_a_full_rdma_counter_is_told_again_when_it_is_full_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree = unpack("rdma_mlx5_infiniband", tmp_path)
    monitor = RdmaMonitor(sys_root=tree.sys)
    counter = tree.sys / "class/infiniband/mlx5_1/ports/1/counters/port_xmit_data"
    told = []
    for value in (0xFFFFFFFF, 0xFFFFFFFF, 10, 20, 0xFFFFFFFF):
        counter.write_text(f"{value}\n")
        assert monitor.run_once()
        told.append(sum("port_xmit_data is full" in record.getMessage() for record in caplog.records))
    assert told == [1, 1, 1, 1, 2]


# --- threads and cgroups ------------------------------------------------------------------------------------


class Tasks:
    """The threads of a process, and the seconds that each waited for a CPU; ``None`` cannot be read."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "self" / "task"
        self.monitor = ProcessPressureMonitor(proc_root=root, sys_root=root)

    def waited(self, tasks: dict[int, int | None]) -> float | None:
        for old in self.folder.glob("*/schedstat"):
            old.unlink()
        for folder in self.folder.glob("*"):
            folder.rmdir()
        for task, seconds in tasks.items():
            write(self.folder, {f"{task}/x": ""})
            (self.folder / str(task) / "x").unlink()
            if seconds is not None:
                write(self.folder, {f"{task}/schedstat": f"9 {seconds}000000000 3"})
        assert self.monitor.run_once()
        return values(self.monitor).get("process.run_queue.time", {}).get(())


def test_threads_that_cannot_be_read_for_once_are_not_counted_anew(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path)
    assert tasks.waited({1: 100, 2: 50}) == 150
    assert tasks.waited({1: 100, 2: None}) == 150
    assert tasks.waited({1: 101, 2: 53}) == 154
    away = tasks.folder.rename(tmp_path / "away")
    assert tasks.monitor.run_once()  # the whole folder cannot be read: no descriptor is free, say
    away.rename(tasks.folder)
    assert tasks.waited({1: 102, 2: 53}) == 155


def test_a_thread_with_the_number_of_one_that_ended_is_another(tmp_path: Path) -> None:
    tasks = Tasks(tmp_path)
    assert tasks.waited({1: 10, 2: 50}) == 60
    assert tasks.waited({1: 10, 2: 1}) == 61  # within one interval
    assert tasks.waited({1: 10}) == 61
    assert tasks.waited({1: 10, 2: 7}) == 68  # it began at 0


def test_a_thread_that_was_only_out_of_sight_is_no_leap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More threads than are read: which ones changes, and what they waited long ago is not new."""
    monkeypatch.setattr("otel_netmon.monitors.pressure._MAX_TASKS", 2)
    monkeypatch.setattr(os, "listdir", lambda path, real=os.listdir: sorted(real(path)))
    tasks = Tasks(tmp_path)
    assert tasks.waited({1: 10, 2: 20, 3: 5000}) == 30
    assert tasks.waited({2: 21, 3: 5000}) == 31
    assert tasks.waited({2: 21, 3: 5002}) == 33


def stat(periods: int, throttled: int, seconds: int) -> str:
    return f"nr_periods {periods}\nnr_throttled {throttled}\nthrottled_usec {seconds}000000\n"


def quota(monitor: Monitor) -> tuple[float, ...]:
    found = values(monitor)
    names = ("cgroup.periods", "cgroup.throttled.periods", "cgroup.throttled.time")
    return tuple(found[name][()] for name in names if name in found)


def test_another_cgroup_is_neither_a_fall_nor_a_leap(tmp_path: Path) -> None:
    """The one that stopped the process longest is another now; then the process is moved."""
    monitor = ProcessPressureMonitor(proc_root=tmp_path / "proc", sys_root=tmp_path / "sys")
    groups = tmp_path / "sys/fs/cgroup"

    def told(cgroup: str, **stats: tuple[int, int, int]) -> tuple[float, ...]:
        write(tmp_path, {"proc/self/cgroup": f"0::{cgroup}\n"})
        for name, numbers in stats.items():
            write(groups, {f"{name.replace('_', '/')}/cpu.stat": stat(*numbers)})
        assert monitor.run_once()
        return quota(monitor)

    assert told("/pod/job", pod=(1000, 10, 50), pod_job=(0, 0, 0)) == (1000, 10, 50)
    assert told("/pod/job", pod=(1010, 11, 51), pod_job=(40, 30, 49)) == (1010, 11, 51)
    assert told("/pod/job", pod=(1020, 11, 51), pod_job=(50, 40, 60)) == (1020, 21, 62)  # now the inner one
    assert told("/old", old=(90_000, 800, 700)) == (1020, 21, 62)  # moved: what that one had is not ours
    assert told("/old", old=(90_010, 801, 702)) == (1030, 22, 64)
    (groups / "old/cpu.stat").unlink()
    (groups / "old").rmdir()
    assert told("/old") == ()
    assert told("/old", old=(5, 1, 1)) in ((1030, 22, 64), (1035, 23, 65))  # made anew; file systems reuse inodes


def test_pressure_goes_on_where_the_process_is_moved(tmp_path: Path) -> None:
    monitor = ProcessPressureMonitor(proc_root=tmp_path / "proc", sys_root=tmp_path / "sys")
    found = []
    for cgroup, micro in (("a", 8_000_000), ("b", 1_000_000), ("b", 1_500_000), ("a", 9_000_000)):
        write(tmp_path, {"proc/self/cgroup": f"0::/{cgroup}\n"})
        write(tmp_path, {f"sys/fs/cgroup/{cgroup}/cpu.pressure": f"some avg10=0.00 total={micro}\n"})
        assert monitor.run_once()
        found.append(values(monitor)["cgroup.stall.time"][("cpu", "some")])
    assert found == pytest.approx([8, 8, 8.5, 9.5])
