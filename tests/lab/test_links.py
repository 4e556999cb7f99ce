"""NICs, throughput, utilisation and latency, against ip, iperf3, tc and ping."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from . import net
from .conftest import Agree
from .net import LabHost

PORT = 5201
CONNECT_PORT = 5210


@pytest.fixture(scope="module")
def pair() -> Iterator[list[LabHost]]:
    with net.hosts(2) as two:
        yield two


class Watch:
    """Our monitors at work on a host."""

    def __init__(self, host: LabHost, interval: float = 0.5) -> None:
        self._process = host.program("watch.py", host.nic, str(interval))
        assert self._process.stdout is not None
        self.first = json.loads(self._process.stdout.readline())

    def stop(self) -> list[dict[str, Any]]:
        out = net.finished(self._process)
        return [self.first, *map(json.loads, out.splitlines())]


def transfer(sender: LabHost, receiver: LabHost, seconds: float) -> dict[str, Any]:
    """The receiver's account of what iperf3 sent as fast as it might."""
    server = receiver.start("iperf3", "-s", "-1", "-J", "-i", "0.5", "-p", str(PORT))
    net.wait_for_port(receiver, PORT)
    sender.run("iperf3", "-c", receiver.address, "-t", str(seconds), "-p", str(PORT), timeout=60)
    found: dict[str, Any] = json.loads(net.finished(server))
    return found


def settle(host: LabHost) -> dict[str, dict[str, int]]:
    """What ``ip`` counts, once nothing moves any more."""
    before = host.link()
    for _ in range(50):
        time.sleep(0.1)
        now = host.link()
        if now["tx"]["bytes"] == before["tx"]["bytes"] and now["rx"]["bytes"] == before["rx"]["bytes"]:
            return now
        before = now
    raise AssertionError("the link never falls silent")


def test_bytes_and_packets(pair: list[LabHost], agree: Agree) -> None:
    """Over a window that begins and ends in silence every byte and packet is the kernel's own."""
    sender, receiver = pair
    sender.shape(200)
    for _ in range(5):
        before = settle(sender)
        watch = Watch(sender)
        silent = sender.link() == before
        report = transfer(sender, receiver, 3)
        after = settle(sender)
        samples = watch.stop()
        if silent and sender.link() == after:  # no stray multicast on either edge
            break
    first, last = samples[0]["nic"], samples[-1]["nic"]
    for ours, theirs, key in (
        ("bytes_sent", "tx", "bytes"), ("packets_sent", "tx", "packets"),
        ("bytes_received", "rx", "bytes"), ("packets_received", "rx", "packets"),
    ):  # fmt: skip
        moved = after[theirs][key] - before[theirs][key]
        agree(f"interface {ours}", last[ours] - first[ours], "ip -s link", moved, 0)
    # iperf3 counts payload: with each 1448 bytes of it go 66 of headers
    payload = (last["bytes_sent"] - first["bytes_sent"]) * 1448 / 1514
    agree("interface bytes_sent, payload", payload, "iperf3", report["end"]["sum_received"]["bytes"], 0.02)
    rates = [one["nic"]["transmit_rate"] for one in samples if one["nic"].get("transmit_rate", 0) > 1e6][1:-1]
    truth = report["end"]["sum_received"]["bits_per_second"] / 8 * 1514 / 1448
    agree("interface rate, By/s", sum(rates) / len(rates), "iperf3", truth, 0.02)


def test_throughput_now_and_peak(pair: list[LabHost], agree: Agree) -> None:
    sender, receiver = pair
    sender.shape(100)
    watch = Watch(sender)
    report = transfer(sender, receiver, 5)
    samples = [sample["all"] for sample in watch.stop()]
    intervals = [one["sum"]["bits_per_second"] / 8 * 1514 / 1448 for one in report["intervals"][1:-1]]
    busy = [one["transmit_rate"] for one in samples if one.get("transmit_rate", 0) > 0.8 * max(intervals)][1:-1]
    agree(
        "throughput now, By/s",
        sorted(busy)[len(busy) // 2],
        "iperf3 interval",
        sorted(intervals)[len(intervals) // 2],
        0.03,
    )
    agree(
        "throughput peak, By/s",
        samples[-1]["peak_transmit_rate"],
        "iperf3 interval, highest",
        max(intervals),
        0.03,
    )


def test_utilisation_under_a_shaper(pair: list[LabHost], agree: Agree) -> None:
    """Share of the link's nominal speed, against what the shaper let through in the same time."""
    sender, receiver = pair
    sender.shape(100)
    speed = int(sender.run("cat", f"/sys/class/net/{sender.nic}/speed")) * 1e6 / 8
    watch = Watch(sender)
    readings: list[tuple[float, int]] = []
    done = threading.Event()

    def read() -> None:
        while not done.wait(0.25):
            readings.append((time.monotonic(), sender.shaped()["bytes"]))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        transfer(sender, receiver, 4)
    finally:
        done.set()
        reader.join()
    used = [one["nic"].get("transmit_utilization", 0.0) for one in watch.stop()]
    moved = [
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for earlier, later in zip(readings, readings[4:], strict=False)
    ]
    theirs = sorted(moved)[-len(moved) // 2] / speed
    busy = [share for share in used if share > 0.5 * theirs][1:-1]
    agree("utilisation at 100 Mbit/s", sorted(busy)[len(busy) // 2], "tc -s qdisc", theirs, 0.05)


# Spread over as long as ping's are: ten at once can all fall into one moment of a busy machine.
CONNECT = """
import json, sys, time
from otel_netmon.monitors import NetworkLatencyMonitor, icmp
host, port = sys.argv[1], sys.argv[2]
monitor = NetworkLatencyMonitor([f"{host}:{port}"], attempts=3)
found = {"tcp": [], "icmp": [], "icmp6": []}
for _ in range(7):
    found["tcp"] += monitor.measure_latency()[f"{host}:{port}"].times
    found["icmp"] += icmp.ping([host], 3, 1.0)[host].times
    found["icmp6"] += icmp.ping([sys.argv[3]], 3, 1.0)[sys.argv[3]].times
    time.sleep(0.1)
print(json.dumps({name: sorted(times) for name, times in found.items()}))
"""


def latencies(near: LabHost, far: LabHost, share: float) -> tuple[dict[str, float], float]:
    """Seconds that this share of the probes was faster than: ours by method, and ping's."""
    out = near.run(sys.executable, "-c", CONNECT, far.address, str(CONNECT_PORT), far.address6)
    ours = {name: times[int(len(times) * share)] for name, times in json.loads(out).items()}
    pinged = near.run("ping", "-c", "15", "-i", "0.05", far.address, check=False)
    times = sorted(float(one) for one in re.findall(r"time=([\d.]+)", pinged))
    return ours, times[int(len(times) * share)] / 1000


METHODS = {"tcp": "TCP connect", "icmp": "ICMP echo", "icmp6": "ICMPv6 echo"}


def listen(host: LabHost) -> None:
    """Let something accept connections on ``CONNECT_PORT``."""
    if f":{CONNECT_PORT} " not in host.run("ss", "-ltnH"):
        host.program("sink.py", str(CONNECT_PORT))
        net.wait_for_port(host, CONNECT_PORT)


def test_latency_of_an_idle_link(pair: list[LabHost], agree: Agree) -> None:
    """Tens of microseconds, so that it is the 0.1 ms that is held; by the fastest: a busy machine adds to some."""
    near, far = pair
    near.shape(1000)
    listen(far)
    ours, theirs = latencies(near, far, 0)
    for name, method in METHODS.items():
        agree(f"{method}, idle link, s", ours[name], "ping", theirs, 0.1, slack=1e-4)


def test_latency_of_a_full_queue(pair: list[LabHost], agree: Agree) -> None:
    """More is sent than the link carries: every packet waits in a queue of some 20 ms."""
    near, far = pair
    near.shape(20)
    listen(far)
    far.start("iperf3", "-s", "-1", "-p", str(PORT))
    net.wait_for_port(far, PORT)
    sent = ("-u", "-b", "21M", "-l", "1000", "-t", "12", "-c", far.address, "-p", str(PORT))
    flood = near.start("iperf3", *sent)
    time.sleep(2)  # until the queue is full
    ours, theirs = latencies(near, far, 0.5)
    assert flood.poll() is None
    assert theirs > 0.01, "the queue never filled"
    for name, method in METHODS.items():
        agree(f"{method}, full queue, s", ours[name], "ping", theirs, 0.1, slack=1e-4)
