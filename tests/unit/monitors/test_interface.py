from __future__ import annotations

import json
from pathlib import Path

import pytest

from otel_netmon.monitors import NetworkBandwidthMonitor, NetworkInterfaceMonitor

from .helpers import Clock, FakeSource, Tree, counters, nic, unpack


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return unpack("host", tmp_path)


def test_totals_rates_and_link_of_a_host(tree: Tree, clock: Clock) -> None:
    monitor = NetworkInterfaceMonitor(proc_root=tree.proc, sys_root=tree.sys, clock=clock)
    first = monitor.get_interface_stats()["eth0"]
    assert (first.bytes_received, first.bytes_sent) == (2_000_000, 4_000_000)
    assert (first.packets_received, first.packets_sent) == (2_000, 4_000)
    assert (first.errors_received, first.dropped_received, first.errors_sent, first.dropped_sent) == (2, 3, 4, 5)
    assert (first.speed, first.mtu, first.up, first.physical) == (25e9 / 8, 9000, True, True)
    assert first.receive_rate is first.transmit_rate is first.window is first.receive_utilization is None
    tree.add("eth0", received=3_000_000, sent=6_000_000)
    clock.now += 2
    second = monitor.get_interface_stats()["eth0"]
    assert (second.receive_rate, second.transmit_rate, second.window) == (1.5e6, 3e6, 2)
    assert (second.receive_packet_rate, second.transmit_packet_rate) == (1_500, 3_000)
    assert second.receive_utilization == pytest.approx(1.5e6 / (25e9 / 8))
    assert monitor.latest["eth0"] == second


def test_what_was_not_measured_is_absent_from_the_dict(clock: Clock) -> None:
    source = FakeSource([nic(speed=None, up=None)])
    stats = NetworkInterfaceMonitor(source=source, clock=clock).get_interface_stats()["eth0"]
    plain = json.loads(json.dumps(stats.to_dict()))
    assert {"speed", "up", "receive_rate", "receive_utilization", "window"}.isdisjoint(plain)
    assert plain["bytes_received"] == 0


def test_two_callers_do_not_shorten_each_others_interval(clock: Clock) -> None:
    """1 kB/ms; one asks every ms, the other every 2.5 s: no rate is over less than the window."""
    source = FakeSource()
    monitor = NetworkInterfaceMonitor(source=source, clock=clock)
    for millisecond in range(5001):
        clock.now = 1000 + millisecond / 1000
        source.nics = [nic(counters=counters(millisecond * 1000, 0))]
        stats = monitor.get_interface_stats()["eth0"]
        if stats.window is None:
            assert millisecond < 1000
        else:
            assert 1.0 <= stats.window < 1.25
            assert stats.receive_rate == pytest.approx(1e6)
    assert len(monitor._ring) < 12


def test_a_reset_gives_no_rate_until_there_is_a_window_after_it(clock: Clock) -> None:
    source = FakeSource()
    monitor = NetworkInterfaceMonitor(source=source, clock=clock)
    rates = []
    for second, received in enumerate([0, 10_000, 5_000, 15_000, 25_000]):
        clock.now = 1000.0 + second
        source.nics = [nic(counters=counters(received, 0))]
        rates.append(monitor.get_interface_stats()["eth0"].receive_rate)
    assert rates == [None, 10_000, None, 10_000, 10_000]


def test_a_reset_within_the_window_is_no_jump_though_it_was_overtaken(clock: Clock) -> None:
    """10 kB, a reset seen at 0.5 s, and 90 kB at 1 s: 80 kB/s would be an invention."""
    source = FakeSource()
    monitor = NetworkInterfaceMonitor(source=source, clock=clock)
    for after, received in ((0.0, 10_000), (0.5, 100), (0.5, 90_000)):
        clock.now += after
        source.nics = [nic(counters=counters(received, 0))]
        stats = monitor.get_interface_stats()["eth0"]
    assert stats.receive_rate is None


@pytest.mark.parametrize("seen_missing", [True, False])
def test_a_nic_that_vanished_and_returned_gives_no_rate(clock: Clock, seen_missing: bool) -> None:
    """Even when it returns with higher counters than before, noticed or not while it was away."""
    source = FakeSource([nic(index=2, counters=counters(1000, 0))])
    monitor = NetworkInterfaceMonitor(source=source, clock=clock)
    monitor.sample()
    clock.now += 5
    if seen_missing:
        source.nics = []
        assert monitor.get_interface_stats() == {}
        clock.now += 5
    back = 2 if seen_missing else 7
    source.nics = [nic(index=back, counters=counters(9_000_000_000, 0))]
    assert monitor.get_interface_stats()["eth0"].receive_rate is None
    clock.now += 2
    source.nics = [nic(index=back, counters=counters(9_000_002_000, 0))]
    assert monitor.get_interface_stats()["eth0"].receive_rate == 1000


def test_a_nic_chosen_by_default_stays_watched_when_it_goes_down(tree: Tree, clock: Clock) -> None:
    monitor = NetworkInterfaceMonitor(proc_root=tree.proc, sys_root=tree.sys, clock=clock)
    monitor.sample()
    tree.set("eth0", "operstate", "down")
    tree.set("bond0", "operstate", "down")
    stats = monitor.get_interface_stats()
    assert {name: s.up for name, s in stats.items()} == {"eth0": False, "bond0": False}
    assert stats["eth0"].reason == "physical NIC, chosen when it was up"


def test_a_reading_overtaken_by_a_newer_one_leaves_no_trace(clock: Clock) -> None:
    """It began first, and ends last: its lower counters must not look like a reset."""
    source = FakeSource([nic(counters=counters(5_000, 0))])
    monitor = NetworkInterfaceMonitor(source=source, clock=clock)
    monitor.sample()

    def overtake() -> None:
        source.on_read = lambda: None
        source.nics = [nic(counters=counters(25_000, 0))]
        clock.now += 2
        monitor.sample()
        source.nics = [nic(counters=counters(10_000, 0))]

    clock.now += 2
    source.on_read = overtake
    assert monitor.get_interface_stats()["eth0"].bytes_received == 10_000
    assert monitor.latest["eth0"].bytes_received == 25_000
    clock.now += 2
    source.nics = [nic(counters=counters(45_000, 0))]
    assert monitor.get_interface_stats()["eth0"].receive_rate == 10_000


def test_bandwidth_is_the_sum_of_nics_counted_once(tree: Tree, clock: Clock) -> None:
    interface = NetworkInterfaceMonitor(
        ["eth*", "bond0", "lo"], proc_root=tree.proc, sys_root=tree.sys, clock=clock
    )
    monitor = NetworkBandwidthMonitor(interface_monitor=interface)
    first = monitor.measure_bandwidth()
    assert (first.receive_rate, first.capacity, first.peak_receive_rate) == (None, None, None)
    assert not monitor.bandwidth_history  # nothing was measured yet
    for name in ("eth0", "eth1", "bond0"):
        tree.add(name, received=1_000_000, sent=2_000_000)
    clock.now += 2
    second = monitor.measure_bandwidth()
    assert (second.receive_rate, second.transmit_rate) == (1e6, 2e6)  # eth1 is in bond0's
    assert second.capacity is None  # the loopback's is not known
    assert "eth1" not in second.interfaces


def test_peak_and_utilisation(clock: Clock) -> None:
    source = FakeSource([nic("eth0"), nic("eth1", up=False, speed=None)])
    monitor = NetworkBandwidthMonitor(interface_monitor=NetworkInterfaceMonitor(source=source, clock=clock))
    total = 0
    for step in (0, 500_000_000, 1_000_000_000, 250_000_000):
        total += step
        source.nics[0] = nic("eth0", counters=counters(total, 0))
        stats = monitor.measure_bandwidth()
        clock.now += 2
    assert (stats.receive_rate, stats.peak_receive_rate, stats.transmit_rate) == (1.25e8, 5e8, 0)
    assert stats.capacity == 1.25e9  # a port that is down adds nothing, and is no unknown
    assert stats.receive_utilization == pytest.approx(0.1)
    assert [one.peak_receive_rate for one in monitor.bandwidth_history] == [2.5e8, 5e8, 5e8]


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="rate_window"):
        NetworkInterfaceMonitor(rate_window=0)
    with pytest.raises(ValueError, match="interface_monitor"):
        NetworkBandwidthMonitor(interface_monitor=NetworkInterfaceMonitor(), interfaces="eth0")
