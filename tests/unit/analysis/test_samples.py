"""What metrics say of hosts and peers: when it was measured, and of whom."""

from __future__ import annotations

from typing import Any

import pytest

from otel_netmon import semconv
from otel_netmon.analysis.evidence import collect
from otel_netmon.diagnosis.evidence import Evidence
from otel_netmon.monitors.base import Monitor
from otel_netmon.monitors.registry import BUILT_IN
from otel_netmon.records import HostSample, HostTraffic, PeerTraffic, RankStep, Source

S = 1_000_000_000
ME = Source("me", "h0", 0, 0, 4)


def point(metric: semconv.Metric, value: float, time: float, source: Source = ME, **about: Any) -> HostSample:
    names = {
        "way": semconv.DIRECTION, "address": semconv.PEER_ADDRESS, "host": semconv.PEER_HOST,
        "rank": semconv.PEER_RANK, "use": semconv.TCP_USE, "of": semconv.MONITOR_NAME,
    }  # fmt: skip
    attributes = {str(names[name]): value for name, value in about.items()}
    return HostSample(metric.name, value, int(time * S), attributes, source=source)


def evidence(*records: Any) -> Evidence:
    (found,) = collect(records).values()
    return found


def step(rank: int, host: str) -> RankStep:
    source = Source(f"rank {rank}", host, rank, 0, 4)
    return RankStep("rank_step", "run", rank=rank, step=0, start=1, end=2, trace_id="t", source=source)


def test_each_metric_is_the_monitors_that_is_said() -> None:
    import pkgutil

    monitors: dict[str, type[Monitor]] = {one.name: pkgutil.resolve_name(one.target) for one in BUILT_IN}
    for metric, name in semconv.SAMPLED_BY.items():
        owners = [cls.name for cls in monitors.values() if metric in {each.name for each in cls.metrics}]
        assert owners == [name]


def test_a_counter_counts_at_the_time_of_its_sample_and_each_sample_once() -> None:
    """Sampled every 10 s and exported every 5: 0, 100 and 200 bytes at 8, 18 and 28 s."""
    exports = [(10, 2.0, 0), (15, 7.0, 0), (20, 2.0, 100), (25, 7.0, 100), (30, 2.0, 200)]
    records = [
        record
        for time, age, value in exports
        for record in (
            point(semconv.NIC_IO, value, time, way="receive"),
            point(semconv.MONITOR_AGE, age, time, of="interface"),
            point(semconv.MONITOR_AGE, 0.1, time, of="tcp"),  # another's
        )
    ]
    for some in (records, records[::-1]):
        (readings,) = evidence(*some).counters["h0"].values()
        assert readings == [(8 * S, 0), (18 * S, 100), (28 * S, 200)]


def test_a_value_that_was_replaced_while_it_was_exported_is_the_later_one() -> None:
    """The age was that of the sample that came in between: of the two values at one time the second is right."""
    records = [
        point(semconv.NIC_IO, 100, 20), point(semconv.MONITOR_AGE, 0.0, 20, of="interface"),
        point(semconv.NIC_IO, 200, 25), point(semconv.MONITOR_AGE, 5.0, 25, of="interface"),
    ]  # fmt: skip
    (readings,) = evidence(*records).counters["h0"].values()
    assert readings == [(20 * S, 200)]


def test_without_an_age_the_time_is_that_of_the_export() -> None:
    (readings,) = evidence(point(semconv.NIC_IO, 7, 10)).counters["h0"].values()
    assert readings == [(10 * S, 7)]


def test_growth_is_that_of_each_series_between_its_own_samples() -> None:
    """Two ranks of a host, 100 and 50 B/s, exported together and sampled apart: not 140."""
    records = []
    for instance, rate, age in (("a", 100, 0.0), ("b", 50, 4.0)):
        source = Source(instance, "h0", ord(instance) - ord("a"))
        for time in range(0, 51, 10):
            records += [
                point(semconv.TCP_IO, rate * (time - age), time, source, way="transmit"),
                point(semconv.MONITOR_AGE, age, time, source, of="tcp"),
            ]
    found = evidence(*records)
    assert found.growth("h0", semconv.TCP_IO.name, 0, 48 * S, {str(semconv.DIRECTION): "transmit"}) == 150
    assert found.growth("h0", semconv.TCP_IO.name, 41 * S, 48 * S) is None


def backs_off(address: str, time: float = 20, use: str = semconv.USE_COLLECTIVES) -> tuple[HostSample, ...]:
    return (
        point(semconv.TCP_BACKOFF, 3, time, address=address, use=use),
        point(semconv.MONITOR_AGE, 1.5, time, of="tcp"),
    )


def test_a_peer_that_metrics_name_by_address_is_a_rank() -> None:
    info = point(semconv.PEER_INFO, 1, 5, address="10.0.0.2", rank=2, host="h2")
    found = evidence(step(0, "h0"), info, *backs_off("10.0.0.2"), *backs_off("10.0.0.3"))
    assert found.backed_off[0] == {2: int(18.5 * S), "10.0.0.3": int(18.5 * S)}


def test_an_address_of_several_ranks_is_none_of_them() -> None:
    infos = [point(semconv.PEER_INFO, 1, 5, address="10.0.0.2", rank=rank, host="h2") for rank in (2, 3)]
    assert list(evidence(step(0, "h0"), *infos, *backs_off("10.0.0.2")).backed_off[0]) == ["10.0.0.2"]


def test_the_store_backing_off_is_not_the_trainings() -> None:
    assert evidence(step(0, "h0"), *backs_off("10.0.0.2", use=semconv.USE_STORE)).backed_off[0] == {}


def test_a_reading_of_a_peer_says_who_is_behind_its_address_too() -> None:
    """As runs do that were recorded before there was a series for that; and its own backing off counts as well."""
    numbers: list[Any] = [0] * 14
    said = PeerTraffic(2, "h2", 1.0, 1, *numbers)._replace(address="10.0.0.2", at=25 * S, source=ME)
    for records in ((said, *backs_off("10.0.0.2")), (*backs_off("10.0.0.2"), said)):
        assert evidence(step(0, "h0"), *records).backed_off[0] == {2: int(18.5 * S)}
    stuck = said._replace(backoff=5)
    assert evidence(step(0, "h0"), stuck, *backs_off("10.0.0.2")).backed_off[0] == {2: 25 * S}


@pytest.mark.parametrize("by", ["address", "host"])
def test_probes_are_of_pairs_of_hosts_by_the_name_that_all_use(by: str) -> None:
    """The peer calls itself otherwise than its telemetry does."""
    address: Any = {"address": "10.0.0.2"} if by == "address" else {}
    peer: Any = address or {"host": "h2"}
    records = [
        step(0, "h0"), step(2, "node-2"),
        point(semconv.PEER_INFO, 1, 5, rank=2, host="h2", **address),
        point(semconv.PEER_LATENCY_MIN, 0.001, 10, **peer),
        point(semconv.MONITOR_AGE, 4.0, 10, of="latency_peers"),
    ]  # fmt: skip
    assert evidence(*records).floors == {("h0", "node-2"): [(6 * S, 0.001)]}


def test_what_nics_moved_is_by_rank_and_in_order() -> None:
    said = [HostTraffic("eth0", 2.0, 5, 4, 3, 2, 0, at, ME) for at in (7, 5)]
    assert [each.at for each in evidence(step(0, "h0"), *said).nics[0]] == [5, 7]
