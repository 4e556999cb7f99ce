"""The training's own connections, as two ranks see them: every byte at one end is one at the other."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.torchrun.harness import forked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="TCP_INFO is Linux'")

ELEMENTS = 500 * 500 + 500


def test_both_ends_agree_and_steps_show_the_pair(tmp_path: Path) -> None:
    run = forked("peers.py", tmp_path, OTEL_NETMON_INTERVAL="0.2", OTEL_NETMON_EMIT_INTERVAL="0.1")
    assert run.code == 0, run.output
    for attempt in range(2):  # the second default group's connections are found as well
        ends = [report["seen"][attempt] for report in run.ranks]
        for seen in ends:
            assert seen["monitor.success"]["tcp"] == 1
            assert seen["tcp.connections"]["collectives"] >= 2  # one per group
            # none is lost on loopback, but timers of a busy machine fire early now and then
            assert 0 <= seen["tcp.retransmits"]["collectives"] < 10
        for near, far in ((0, 1), (1, 0)):
            sent = ends[near]["tcp.io"]["transmit/collectives"]
            received = ends[far]["tcp.io"]["receive/collectives"]
            if attempt == 0:
                assert 0 <= sent - received <= 4  # opening a connection counts as a byte acknowledged
            else:  # what the barrier moved between the last sample and the end of the first group was not seen
                assert abs(sent - received) < 1000
            # a ring of two sends half of a buffer twice
            assert received >= (attempt + 1) * 10 * ELEMENTS * 4
    for rank, report in enumerate(run.ranks):
        events = report["events"]
        assert events and {event["otel_netmon.peer.rank"] for event in events} == {1 - rank}
        assert {event["span"] for event in events} <= {"rank_step", "rank_setup"}
        assert sum(event["otel_netmon.peer.sent"] for event in events) > ELEMENTS * 4
        for event in events:
            assert event["start"] - 5e8 <= event["at"] <= event["end"]
            assert event["otel_netmon.peer.interval"] > 0.1
            assert event["network.peer.address"] in report["addresses"]  # as the metrics name it


def test_while_a_step_is_open_its_traffic_is_told_every_two_seconds(tmp_path: Path) -> None:
    """Whatever the interval of the monitors, and each reading once."""
    run = forked("open_step.py", tmp_path, "7", OTEL_NETMON_INTERVAL="3600")
    assert run.code == 0, run.output
    for report in run.ranks:
        before = [one for one in report["before"] if one["time"] > report["opened"]]
        assert 2 <= len(before) <= 4
        assert all(1.5 < one["otel_netmon.peer.interval"] < 3 for one in before[1:])
        assert max(one["otel_netmon.peer.sent"] for one in before) > 10_000
        (step,) = (
            span
            for span in report["spans"]
            if span["name"] == "rank_step" and span["attributes"]["torch.distributed.step"] == 2
        )
        assert {one["trace"] for one in before} == {step["context"]["trace_id"].removeprefix("0x")}
        times = [one["time"] for one in report["after"]]
        assert len(set(times)) == len(times) and set(times) >= {one["time"] for one in before}
