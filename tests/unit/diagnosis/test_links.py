"""A slow, lossy or crowded link is named with its host and direction; nobody is, where that cannot be told."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from otel_netmon import semconv
from otel_netmon.diagnosis.diagnose import diagnose
from otel_netmon.diagnosis.evidence import Evidence
from otel_netmon.diagnosis.finding import Confidence, Direction, Kind
from otel_netmon.diagnosis.traffic import Traffic
from otel_netmon.records import PeerTraffic
from tests.unit.diagnosis.evidence import MBIT, job, reading, ring

SLOW = 80.0
STEPS = 60


def of(host: int, out: float, into: float, usual: float) -> Callable[[int, int], float]:
    """A quantity of pairs, by direction of ``host``."""
    return lambda source, target: out if source == host else into if target == host else usual


@pytest.mark.parametrize("host", range(4))
@pytest.mark.parametrize(
    ("out", "into", "direction"),
    [(SLOW, 350.0, Direction.TRANSMIT), (350.0, SLOW, Direction.RECEIVE), (SLOW, SLOW, Direction.BOTH)],
)
def test_a_slow_host_and_its_direction(host: int, out: float, into: float, direction: Direction) -> None:
    evidence = ring(job(steps=STEPS), rate=of(host, out, into, 400.0), rtt=of(host, 0.008, 0.008, 0.003))
    (finding,) = diagnose(evidence)
    assert (finding.kind, finding.hosts, finding.direction) == (Kind.SLOW_LINK, (f"h{host}",), direction)
    assert finding.confidence is Confidence.HIGH
    assert finding.lost == pytest.approx(0.8 * 0.15, rel=0.1)
    assert f"The link of host h{host} is slow" in finding.sentence and re.search(
        r"moves (79|80|81) Mbit/s", finding.sentence
    )


def test_two_slow_hosts_are_both_named() -> None:
    def rate(source: int, target: int) -> float:
        return 60.0 if 1 in (source, target) else 100.0 if 5 in (source, target) else 400.0

    evidence = ring(job(8, steps=STEPS), rate=rate, rtt=lambda s, t: 0.009 if {s, t} & {1, 5} else 0.003)
    assert [each.hosts for each in diagnose(evidence)] == [("h1",), ("h5",)]


@pytest.mark.parametrize("way", [Direction.TRANSMIT, Direction.RECEIVE])
def test_traffic_of_others_is_told_from_a_slow_link(way: Direction) -> None:
    out, into = (SLOW, 350.0) if way is Direction.TRANSMIT else (350.0, SLOW)
    evidence = ring(job(steps=STEPS), rate=of(2, out, into, 400.0), rtt=of(2, 0.008, 0.008, 0.003))
    first, last = evidence.steps[0].start[2], evidence.steps[STEPS - 1].end[2]
    counters = evidence.counters["h2"] = {}
    for direction in ("transmit", "receive"):
        foreign = 10e6 if direction == way.value else 0.0
        about = ((str(semconv.DIRECTION), direction),)
        times = [(at, (at - first) / 1e9) for at in range(first, last, 10**9)]
        counters[semconv.TCP_IO.name, "i", about] = [(at, 20e6 * seconds) for at, seconds in times]
        counters[semconv.NIC_IO.name, "i", about] = [(at, (20.5e6 + foreign) * seconds) for at, seconds in times]
    (finding,) = diagnose(evidence)
    assert (finding.kind, finding.hosts, finding.direction) == (Kind.CROSS_TRAFFIC, ("h2",), way)
    for key, readings in counters.items():
        if key[0] == semconv.NIC_IO.name:
            readings[:] = [
                (at, value if way.value not in str(key) else value - 10e6 * (at - first) / 1e9)
                for at, value in readings
            ]
    (finding,) = diagnose(evidence)
    assert (finding.kind, finding.direction) == (Kind.SLOW_LINK, way)


@pytest.mark.parametrize("way", [Direction.TRANSMIT, Direction.RECEIVE])
def test_loss_and_the_end_that_loses(way: Direction) -> None:
    """The small flows of the same host lose as well, those of the other end do not."""

    def loss(source: int, target: int) -> float:
        return 0.02 if (source if way is Direction.TRANSMIT else target) == 2 else 0.0002

    bulk = (2, 3) if way is Direction.TRANSMIT else (1, 2)
    evidence = ring(job(steps=STEPS), loss=loss, rtt=lambda s, t: 0.001 if (s, t) == bulk else 0.003)
    (finding,) = diagnose(evidence)
    assert (finding.kind, finding.hosts, finding.direction) == (Kind.LOSSY, ("h2",), way)
    assert finding.pairs == ((f"h{bulk[0]}", f"h{bulk[1]}"),)


def test_hosts_that_lose_packets_are_all_named_beside_one_that_is_slow() -> None:
    evidence = ring(
        job(12, steps=STEPS),
        rate=lambda source, target: SLOW if 9 in (source, target) else 400.0,
        rtt=lambda source, target: (
            0.009 if 9 in (source, target) else 0.001 if {source, target} & {1, 5} else 0.003
        ),
        loss=lambda source, target: 0.02 if {source, target} & {1, 5} else 0.0001,
    )
    found = {(each.kind, each.hosts) for each in diagnose(evidence)}
    assert found == {(Kind.LOSSY, ("h1",)), (Kind.LOSSY, ("h5",)), (Kind.SLOW_LINK, ("h9",))}


def test_loss_without_small_flows_names_both_ends() -> None:
    evidence = ring(
        job(steps=STEPS),
        loss=lambda s, t: 0.02 if (s, t) == (2, 3) else 0.0002,
        rtt=lambda s, t: 0.001 if (s, t) == (2, 3) else 0.003,
        change=lambda _, rank, readings: [each for each in readings if each.peer == (rank + 1) % 4],
    )
    (finding,) = diagnose(evidence)
    assert (finding.hosts, finding.direction, finding.confidence) == (("h2", "h3"), None, Confidence.LOW)
    assert finding.not_excluded


@pytest.mark.parametrize(
    "make",
    [
        lambda: ring(job(steps=STEPS)),
        lambda: ring(job(steps=STEPS), rate=of(2, 360.0, 360.0, 400.0)),
        lambda: ring(job(steps=STEPS), rate=lambda s, t: SLOW, rtt=lambda s, t: 0.02),
        lambda: ring(job(steps=STEPS), loss=lambda s, t: 0.01),
        lambda: ring(job(2, steps=STEPS), rate=of(1, SLOW, 350.0, 400.0)),
    ],
    ids=["even", "a little slower", "all slow", "all lose", "two hosts: either"],
)
def test_no_link_is_blamed_without_cause(make: Callable[[], Evidence]) -> None:
    (finding,) = diagnose(make())
    assert not finding.accuses, finding.sentence


def test_a_late_rank_explains_a_link_that_is_a_little_slow() -> None:
    evidence = ring(
        job(steps=STEPS, extra=lambda _, rank: {"own": 0.04 * (rank == 0)}),
        rate=of(2, 335.0, 360.0, 400.0),
        rtt=of(2, 0.0033, 0.0033, 0.003),
    )
    assert [(each.kind, each.ranks) for each in diagnose(evidence)] == [(Kind.SLOW_RANK, (0,))]


def test_the_step_from_which_on_a_link_is_slow() -> None:
    """Known by the steps, which take longer from then on; the window has others as well."""
    begin = 23

    def later(evidence: Evidence, rank: int, readings: list[PeerTraffic]) -> list[PeerTraffic]:
        since = evidence.steps[begin].start[rank]
        quick = ring(job(steps=STEPS)).traffic[rank]
        fast = {(peer, at): of.busy[place] for peer, of in quick.peers.items() for place, at in enumerate(of.at)}
        return [
            each if each.at > since else each._replace(busy_time=fast[each.peer, each.at]) for each in readings
        ]

    evidence = job(steps=STEPS, extra=lambda step, _: {"in_collectives": 0.2 * (step >= begin)})
    (finding,) = diagnose(
        ring(evidence, rate=of(2, SLOW, SLOW, 400.0), rtt=of(2, 0.008, 0.008, 0.003), change=later)
    )
    assert (finding.hosts, finding.first_step, finding.last_step) == (("h2",), begin, STEPS - 1)


def test_a_link_that_is_a_little_slow_is_named_if_it_lasts() -> None:
    def findings(steps: int, *, live: bool = False) -> list[tuple[Kind, tuple[str, ...]]]:
        evidence = ring(job(steps=steps), rate=of(2, 335.0, 360.0, 400.0), rtt=of(2, 0.0033, 0.0033, 0.003))
        return [(each.kind, each.hosts) for each in diagnose(evidence, live=live)]

    assert findings(STEPS) == [(Kind.SLOW_LINK, ("h2",))]
    for found in findings(STEPS // 2), findings(STEPS, live=True):
        assert found == [(Kind.NOTHING, ())]


def test_a_pair_that_loses_hardly_more_than_others_is_not_lossy() -> None:
    """Queues are full here and there: the others' loss is explained by their long round-trip times."""
    evidence = ring(
        job(steps=STEPS),
        loss=lambda s, t: 0.013 if (s, t) == (2, 3) else 0.010,
        rtt=lambda s, t: 0.001 if (s, t) == (2, 3) else 0.004,
    )
    assert [each.kind for each in diagnose(evidence)] == [Kind.NOTHING]


def test_a_quota_that_stops_a_rank_beats_the_link_of_its_host() -> None:
    """Also where it does not wait in the run queue more than others do."""

    def findings(throttled: float, of_all: float = 0.0) -> list[Kind]:
        evidence = ring(
            job(steps=STEPS, extra=lambda _, rank: {"throttled": throttled if rank == 2 else of_all}),
            rate=of(2, SLOW, SLOW, 400.0),
            rtt=of(2, 0.008, 0.008, 0.003),
        )
        return [each.kind for each in diagnose(evidence)]

    assert findings(0.04) == [Kind.NOTHING]
    assert findings(0.004) == findings(0.04, of_all=0.03) == [Kind.SLOW_LINK]


def test_connections_within_a_host_are_no_link() -> None:
    """Two ranks a host: what goes between them is slow, and says nothing of a NIC."""
    evidence = ring(
        job(8, steps=STEPS, per_host=2),
        rate=lambda s, t: SLOW if s // 2 == t // 2 else 400.0,
        rtt=lambda s, t: 0.02 if s // 2 == t // 2 else 0.003,
    )
    assert diagnose(evidence)[0].kind is Kind.NOTHING


def test_a_rank_without_cpu_beats_the_link_of_its_host() -> None:
    evidence = ring(
        job(steps=STEPS, extra=lambda step, rank: {"own": 0.04, "run_queue": 0.06} if rank == 2 else {}),
        rate=of(2, SLOW, SLOW, 400.0),
        rtt=of(2, 0.008, 0.008, 0.003),
    )
    assert [each.kind for each in diagnose(evidence)] == [Kind.STARVED]


def test_clocks_do_not_matter() -> None:
    """Whatever the hosts' clocks say, the findings are the same, word by word."""
    slow: Any = {"rate": of(2, SLOW, 350.0, 400.0), "rtt": of(2, 0.008, 0.008, 0.003)}

    def moved(evidence: Evidence, rank: int, readings: list[PeerTraffic]) -> list[PeerTraffic]:
        by = (rank - 1) * 7_777_777_777_777
        for table in evidence.steps.values():
            table.start[rank] += by
            table.end[rank] += by
        return [each._replace(at=each.at + by) for each in readings]

    found = diagnose(ring(job(steps=STEPS), **slow, change=moved))
    assert found == diagnose(ring(job(steps=STEPS), **slow)) and found[0].accuses


def test_a_thousand_hosts_take_no_longer_than_they_have_to() -> None:
    """Pairs are compared with the others at once, and not with each of them: this would take minutes."""
    evidence = job(1000, steps=20)
    for rank in evidence.ranks:
        last = evidence.last_sign[rank]
        evidence.traffic[rank] = Traffic(
            _bulk((rank + 1) % 1000, last - at * 10**9, 80.0 if rank == 500 else 400.0) for at in range(4)
        )
    assert diagnose(evidence)


def _bulk(peer: int, at: int, rate: float) -> PeerTraffic:
    return reading(peer, at, 2_000_000, 2_000_000 / (rate * MBIT), 0.003, 1400, 0)


def test_connections_that_are_made_later_are_not_traffic_of_others() -> None:
    """What they carried before they were first read is the job's, too."""
    evidence, second = Evidence(), 10**9
    out = ((str(semconv.DIRECTION), "transmit"),)
    evidence.counters["h0"] = {
        (semconv.TCP_IO.name, "i", (*out, ("peer", 1))): [(0, 5e6), (5 * second, 5e6), (10 * second, 5e6)],
        (semconv.TCP_IO.name, "i", (*out, ("peer", 2))): [(5 * second, 40e6), (10 * second, 140e6)],
        (semconv.TCP_IO.name, "i", (*out, ("peer", 3))): [(10 * second, 1e6)],
    }

    def grown(first: int, last: int) -> float | None:
        return evidence.growth("h0", semconv.TCP_IO.name, first, last, {str(semconv.DIRECTION): "transmit"})

    assert grown(0, 10 * second) == pytest.approx(14.1e6)
    assert grown(5 * second, 10 * second) == pytest.approx(20.2e6)
    assert grown(6 * second, 10 * second) is None
