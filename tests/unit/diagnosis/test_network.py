"""Whose traffic fills a link, and whether it is narrow or long: on made-up readings of four hosts in a ring."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from otel_netmon.diagnosis.diagnose import diagnose
from otel_netmon.diagnosis.evidence import Evidence
from otel_netmon.diagnosis.finding import Cause, Direction, Finding, Kind
from otel_netmon.diagnosis.steps import StepSample, StepTable
from otel_netmon.diagnosis.traffic import Traffic
from otel_netmon.records import HostTraffic, PeerTraffic

S = 1_000_000_000
STEPS, SLOW = 60, 2
USUAL, RATE = 0.004, 50e6
"""Seconds of a round trip under load, and B/s."""


def a_run(
    slow: float = 0.4,
    rtt: float = 0.012,
    shortest: float | None = None,
    quick: Callable[[int], bool] = lambda _: False,
) -> Evidence:
    """A second a step; the links of host 2 at a share of the others' rate."""
    evidence = Evidence(4, hosts={rank: f"h{rank}" for rank in range(4)})
    for number in range(STEPS):
        start = number * S
        table = evidence.steps[number] = StepTable()
        for rank in range(4):
            table.add(rank, StepSample(start, start + S, 0.8))
    for rank in range(4):
        peers = (rank + 1) % 4, (rank - 1) % 4
        readings = [
            reading(rank, peer, second, slow, rtt, shortest) for second in range(1, STEPS) for peer in peers
        ]
        evidence.traffic[rank] = Traffic(
            each._replace(shortest_rtt=0.0005) if quick(place) else each for place, each in enumerate(readings)
        )
    return evidence


def reading(rank: int, peer: int, second: int, slow: float, rtt: float, shortest: float | None) -> PeerTraffic:
    touches = SLOW in (rank, peer)
    wobble = 1 + 0.01 * ((second * 7 + rank * 3 + peer) % 5)
    rate = RATE * wobble * (slow if touches else 1.0)
    return PeerTraffic(
        peer, f"h{peer}", 1.0, 1, int(rate * 0.5), int(rate * 0.5), 1000, 0, rtt if touches else USUAL, 0.001,
        1e-5, 0.5, 0.0, 0.0, int(rate), 0, 0, 0, rank,
        shortest_rtt=shortest if touches else USUAL, at=second * S,
    )  # fmt: skip


def the_finding(evidence: Evidence) -> Finding:
    (found,) = diagnose(evidence)
    assert found.hosts == ("h2",)
    return found


def probed(evidence: Evidence, long: float, usual: float, seconds: Any = range(1, STEPS, 5)) -> Evidence:
    for here in range(4):
        for there in range(4):
            floor = long if SLOW in (here, there) else usual
            if here != there:  # a full queue adds to most of them
                evidence.floors[f"h{here}", f"h{there}"] = [
                    (second * S, floor + (0.003 if n % 3 else 0.0)) for n, second in enumerate(seconds)
                ]
    return evidence


def test_probes_tell_a_delay_from_a_rate_limit() -> None:
    long = the_finding(probed(a_run(), long=0.0101, usual=0.0001))
    assert (long.kind, long.cause) == (Kind.SLOW_LINK, Cause.DELAY)
    narrow = the_finding(probed(a_run(), long=0.0001, usual=0.0001))
    assert narrow.cause is Cause.RATE
    for found, word in ((long, "the way is long"), (narrow, "the way is narrow")):
        assert word in found.sentence
        assert not [doubt for doubt in found.not_excluded if "way" in doubt]
        assert "round-trip time without load" in {fact.name for fact in found.facts}


@pytest.mark.parametrize(("long", "usual"), [(0.0005, 0.0001), (0.014, 0.010)])
def test_a_little_longer_is_no_delay(long: float, usual: float) -> None:
    """By less than 0.5 ms, or by less than half."""
    assert the_finding(probed(a_run(), long, usual)).cause is Cause.RATE


def test_probes_of_before_the_fault_say_nothing() -> None:
    found = the_finding(probed(a_run(), 0.0001, 0.0001, seconds=[-30, -20]))
    assert found.cause is None and found.not_excluded


def test_a_quick_probe_of_before_the_fault_denies_no_delay() -> None:
    evidence = probed(a_run(), long=0.0101, usual=0.0001, seconds=range(1, STEPS))
    for probes in evidence.floors.values():
        probes[STEPS - 18] = probes[STEPS - 18][0], 0.0001
    (found,) = diagnose(evidence, live=True)  # by the last window alone
    assert found.cause is Cause.DELAY


def test_probes_of_the_slow_host_alone_say_nothing() -> None:
    evidence = probed(a_run(), long=0.0101, usual=0.0001)
    evidence.floors = {pair: each for pair, each in evidence.floors.items() if "h2" in pair}
    assert any("no round-trip time without load is known" in each for each in the_finding(evidence).not_excluded)


def test_without_probes_it_is_not_known_and_is_said_how_it_could_be() -> None:
    found = the_finding(a_run())
    assert found.cause is None
    (doubt,) = [each for each in found.not_excluded if "no round-trip time without load is known" in each]
    assert "OTEL_NETMON_LATENCY_PEERS" in doubt


def test_a_connection_that_is_hardly_used_and_quick_excludes_a_delay() -> None:
    found = the_finding(a_run(shortest=0.0005))
    assert found.cause is Cause.RATE
    assert not [doubt for doubt in found.not_excluded if "way" in doubt]


def test_a_few_quick_readings_of_before_the_fault_exclude_nothing() -> None:
    assert the_finding(a_run(shortest=0.012, quick=lambda place: place % 7 == 0)).cause is None


def nic(rank: int, second: int, foreign: tuple[float, float], name: str = "eth0", ranks: int = 1) -> HostTraffic:
    """Of a host's NIC, which carries ``foreign`` B/s out and in beside the job's 40 MB/s each way."""
    job = 40_000_000
    out, into = (int(1.045 * job + 0.02 * job + each) for each in foreign)
    return HostTraffic(name, 1.0, out, into, job // ranks, job // ranks, rank, second * S)


def with_nics(evidence: Evidence, foreign: tuple[float, float]) -> Evidence:
    for rank in range(4):
        beside = foreign if rank == SLOW else (0.0, 0.0)
        evidence.nics[rank] = [nic(rank, second, beside) for second in range(1, STEPS)]
    return evidence


@pytest.mark.parametrize(
    ("foreign", "kind", "direction"),
    [
        ((0, 0), Kind.SLOW_LINK, Direction.BOTH),
        ((30e6, 0), Kind.CROSS_TRAFFIC, Direction.TRANSMIT),
        ((0, 30e6), Kind.CROSS_TRAFFIC, Direction.RECEIVE),
    ],
)
def test_what_a_nic_carries_beside_the_job(foreign: Any, kind: Kind, direction: Direction) -> None:
    found = the_finding(with_nics(a_run(), foreign))
    assert (found.kind, found.direction) == (kind, direction)
    assert not [doubt for doubt in found.not_excluded if "was not recorded" in doubt]


def test_acknowledgements_are_no_foreign_traffic() -> None:
    """A host that only receives sends a packet for every other that comes in."""
    evidence = a_run()
    evidence.nics[SLOW] = [
        HostTraffic("eth0", 1.0, 1_000_000, 42_000_000, 1000, 40_000_000, SLOW, second * S)
        for second in range(1, STEPS)
    ]
    assert the_finding(evidence).kind is Kind.SLOW_LINK


def test_another_nic_of_the_host_does_not_count() -> None:
    """One with the store's few bytes, and others' many."""
    evidence = with_nics(a_run(), (0, 0))
    storage = [
        HostTraffic("eth1", 1.0, 90_000_000, 90_000_000, 50, 50, SLOW, second * S) for second in range(1, STEPS)
    ]
    evidence.nics[SLOW] += storage
    assert the_finding(evidence).kind is Kind.SLOW_LINK


def test_the_ranks_of_a_host_share_its_nic() -> None:
    """Each of two moves half of the job's bytes: none of them is foreign to the other."""
    evidence = a_run()
    evidence.hosts[4] = "h2"
    for number, of in evidence.steps.items():
        of.add(4, StepSample(number * S, (number + 1) * S, 0.8))
    for rank in (SLOW, 4):
        evidence.nics[rank] = [nic(rank, second, (0.0, 0.0), ranks=2) for second in range(1, STEPS)]
    assert the_finding(evidence).kind is Kind.SLOW_LINK
    # While the job runs, one of them may not have told its last readings yet, or none at all.
    evidence.nics[4] = evidence.nics[4][:-8]
    assert the_finding(evidence).kind is Kind.SLOW_LINK
    evidence.traffic[4], evidence.nics[4] = evidence.traffic[SLOW], []
    assert the_finding(evidence).kind is Kind.SLOW_LINK
