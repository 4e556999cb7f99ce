"""What we read of TCP connections, against ``ss``, and retransmissions against what a firewall dropped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from . import net
from .conftest import Agree
from .net import LabHost

PORT = 7000


@pytest.fixture
def pair() -> Iterator[list[LabHost]]:
    with net.hosts(2) as two:
        yield two


def send(sender: LabHost, receiver: LabHost, size: int, *addresses: str) -> dict[str, Any]:
    receiver.program("sink.py", str(PORT))
    net.wait_for_port(receiver, PORT)
    found: dict[str, Any] = json.loads(
        net.finished(sender.program("send.py", str(PORT), str(size), *addresses), 120)
    )
    return found


def by_ss(text: str) -> dict[str, dict[str, float]]:
    """What ``ss -tinHO`` prints, by local address: numbers in the kernel's own units (µs, By, By/s)."""
    found = {}
    for line in text.splitlines():
        columns = line.split()
        local = columns[3].replace("[", "").replace("]", "").replace("::ffff:", "")
        values: dict[str, float] = {}
        rtt = re.search(r" rtt:([\d.]+)/([\d.]+)", line)
        if rtt:
            values |= {"rtt": float(rtt[1]) * 1e3, "rttvar": float(rtt[2]) * 1e3}
        for name in ("bytes_acked", "bytes_received", "data_segs_out", "data_segs_in"):
            match = re.search(rf" {name}:(\d+)", line)
            values[name] = float(match[1]) if match else 0.0
        minimum = re.search(r" minrtt:([\d.]+)", line)
        values["min_rtt"] = float(minimum[1]) * 1e3 if minimum else 0.0
        again = re.search(r" retrans:\d+/(\d+)", line)
        values["total_retrans"] = float(again[1]) if again else 0.0
        rate = re.search(r" delivery_rate (\d+)bps", line)
        values["delivery_rate"] = float(rate[1]) / 8 if rate else 0.0
        for name, key in (
            ("busy", "busy_time"),
            ("rwnd_limited", "rwnd_limited"),
            ("sndbuf_limited", "sndbuf_limited"),
        ):
            match = re.search(rf" {name}:(\d+)ms", line)
            values[key] = float(match[1]) * 1e3 if match else 0.0
        found[local] = values
    return found


def test_every_field_is_what_ss_reads(pair: list[LabHost], agree: Agree) -> None:
    """IPv4 and IPv6, some megabytes over a shaped and lossy link, so that no field is 0 by chance."""
    sender, receiver = pair
    sender.shape(50)
    receiver.lose(2, sender.address)
    found = send(sender, receiver, 4_000_000, receiver.address, receiver.address6)
    theirs = by_ss(found["ss"])
    assert len(found["ours"]) == 2
    for ours in found["ours"]:
        truth = theirs[ours["local"]]
        for name, value in truth.items():
            # what ss prints in ms has 3 decimals, or none
            ms = name in ("busy_time", "rwnd_limited", "sndbuf_limited")
            mine = ours[name] // 1000 * 1000 if ms else ours[name]
            assert mine == pytest.approx(value, abs=0.6 if "rtt" in name else 0.01), (name, ours, truth)
    lossy = next(one for one in found["ours"] if "." in one["remote"])
    truth = theirs[lossy["local"]]
    for what, name in (
        ("RTT, µs", "rtt"), ("lowest RTT, µs", "min_rtt"), ("retransmits", "total_retrans"),
        ("delivery rate, By/s", "delivery_rate"), ("bytes acknowledged", "bytes_acked"),
    ):  # fmt: skip
        agree(f"TCP {what}", lossy[name], "ss -tin", truth[name], 0, slack=0.6)
    agree("TCP busy time, ms", lossy["busy_time"] // 1000, "ss -tin", truth["busy_time"] / 1000, 0)


@pytest.mark.parametrize("percent", [1, 2, 5])
def test_retransmits_under_loss(pair: list[LabHost], agree: Agree, percent: int) -> None:
    sender, receiver = pair
    sender.shape(200)
    receiver.lose(percent, sender.address)
    size = 60_000_000 if percent < 5 else 30_000_000
    found = send(sender, receiver, size, receiver.address)
    (ours,) = found["ours"]
    seen, dropped = receiver.lost()
    ratio = ours["total_retrans"] / ours["data_segs_out"]
    agree(f"retransmit ratio at {percent}% loss", ratio, "nft", dropped / seen, 0.2)
