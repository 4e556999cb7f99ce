"""What a NIC carries beside the training, read together with its connections: against what was sent."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from . import net
from .conftest import Agree
from .net import LabHost

PORT, FOREIGN = 7000, 5201
RATE, SECONDS = 4e6, 6.0


@pytest.fixture
def three() -> Iterator[list[LabHost]]:
    with net.hosts(3) as hosts:
        yield hosts


def test_the_share_of_others_on_a_nic(three: list[LabHost], agree: Agree) -> None:
    """The training sends 4 MB/s to one host while iperf3 sends as much to another."""
    near, far, other = three
    far.program("sink.py", str(PORT))
    net.wait_for_port(far, PORT)
    server = other.start("iperf3", "-s", "-1", "-J", "-p", str(FOREIGN))
    net.wait_for_port(other, FOREIGN)
    before = near.link()
    training = near.program("together.py", far.address, str(PORT), str(RATE), str(SECONDS))
    time.sleep(1)
    near.run("iperf3", "-c", other.address, "-b", f"{8 * RATE:.0f}", "-t", "4", "-p", str(FOREIGN))
    said = json.loads(net.finished(training))
    moved = near.link()
    foreign = json.loads(net.finished(server))["end"]["sum_received"]["bytes"]
    readings = said["readings"]
    assert {each["interface"] for each in readings} == {near.nic} and len(readings) > 4
    totals = {
        name: sum(each[name] for each in readings) for name in ("sent", "received", "job_sent", "job_received")
    }
    agree(
        "NIC bytes of the readings",
        totals["sent"],
        "ip -s link",
        moved["tx"]["bytes"] - before["tx"]["bytes"],
        0.01,
    )
    agree("the job's bytes of the readings", totals["job_sent"], "what was sent", said["sent"], 0.001)
    share = 1 - 1.06 * totals["job_sent"] / totals["sent"]
    agree("share of others on a NIC", share, "iperf3", foreign / (foreign + said["sent"]), 0.05)
    assert totals["job_received"] == 0 < totals["received"]
    busy = [each for each in readings if each["job_sent"] > RATE / 2]
    alone = min(busy, key=lambda each: each["sent"] / each["job_sent"])
    agree("NIC bytes for a byte of TCP", alone["sent"] / alone["job_sent"], "headers, MTU 1500", 1514 / 1448, 0.02)
