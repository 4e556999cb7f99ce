"""What ranks tell one another of their connections, through a real store, and what others may have put there."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_netmon.engine import Engine
from otel_netmon.job import directory, peers
from otel_netmon.job.directory import MAX_CONNECTIONS, StoreDirectory
from otel_netmon.job.peers import Connection, Endpoint, Peer
from otel_netmon.job.store import JobStore, store_of

dist = pytest.importorskip("torch.distributed")


class Rank:
    """One rank's directory over the store that all share."""

    def __init__(self, number: int, size: int, store: Any) -> None:
        self.number, self.store = number, store
        self.directory = StoreDirectory(lambda: JobStore(self.store), number, size)

    def exchange(self, *own: Connection) -> dict[Connection, Peer]:
        return self.directory.exchange(own)

    def hosts(self, most: int) -> list[str]:
        return [host.address for host in self.directory.some_hosts(most)]


Ranks = Callable[..., list[Rank]]


@pytest.fixture
def ranks() -> Ranks:
    def make(count: int, store: Any = None) -> list[Rank]:
        shared = store if store is not None else dist.HashStore()
        return [Rank(number, count, shared) for number in range(count)]

    return make


def joined(near: str, far: str, port: int = 5000) -> tuple[Connection, Connection]:
    one, two = Endpoint(near, port), Endpoint(far, port + 1)
    return Connection(one, two), Connection(two, one)


def test_both_ends_find_each_other_and_nobody_else(ranks: Ranks) -> None:
    first, second, third = ranks(3)
    near, far = joined("10.0.0.1", "10.0.0.2")
    again, back = joined("10.0.0.1", "10.0.0.2", 6000)  # the same hosts, other ranks
    foreign, _ = joined("10.0.0.1", "10.9.9.9", 443)
    assert first.exchange(near, foreign) == {}
    assert {c: p.rank for c, p in second.exchange(far).items()} == {far: 0}
    assert {c: p.rank for c, p in third.exchange(back).items()} == {}
    found = first.exchange(near, foreign, again)
    assert {c: p.rank for c, p in found.items()} == {near: 1, again: 2}
    assert not any(peer.is_store for peer in found.values())


def test_loopback_of_another_host_is_another_one(ranks: Ranks, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = ranks(2)
    near, far = joined("127.0.0.1", "127.0.0.1")
    first.exchange(near)
    monkeypatch.setattr(directory, "_this_host", lambda: "elsewhere")
    assert second.exchange(far) == {}


def test_a_peer_that_publishes_late_is_found_and_one_that_never_does_is_asked_less_and_less(ranks: Ranks) -> None:
    class Counting(dist.HashStore):  # type: ignore[misc, name-defined]  # torch is untyped here
        checks = 0

        def check(self, keys: list[str]) -> bool:
            Counting.checks += 1
            return bool(super().check(keys))

    first, second = ranks(2, Counting())
    near, far = joined("10.0.0.1", "10.0.0.2")
    foreign, _ = joined("10.0.0.1", "10.9.9.9")
    for _ in range(5):
        assert first.exchange(near, foreign) == {}
    second.exchange(far)
    found = [first.exchange(near, foreign) for _ in range(600)]
    assert {c: p.rank for c, p in found[-1].items()} == {near: 1}
    assert Counting.checks < 30


def test_a_new_default_group_has_a_directory_of_its_own() -> None:
    near, far = joined("10.0.0.1", "10.0.0.2")
    engine = Engine()
    engine.start()
    found = []
    try:
        for number in (1, 2):
            assert peers.directory is None or peers.directory.exchange([near]) == {}
            dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
            dist.barrier()
            store = store_of(weakref.ref(dist.group.WORLD))
            assert store is not None and peers.directory is not None
            store.write(directory._KEY + directory._name(far), json.dumps({"rank": number, "host": "h"}))
            found.append(peers.directory.exchange([near])[near].rank)
            dist.destroy_process_group()
    finally:
        engine.stop()
    assert found == [1, 2] and peers.directory is None


def test_hosts_are_given_in_turn_and_never_ones_own(ranks: Ranks) -> None:
    all_ranks = ranks(10)
    for rank in all_ranks:  # two ranks on each of five hosts
        address = f"10.0.0.{1 + rank.number // 2}"
        rank.exchange(joined(address, "10.0.1.1", 7000 + 2 * rank.number)[0])
    others = {f"10.0.0.{number}" for number in range(2, 6)}
    seen = [all_ranks[0].hosts(2) for _ in range(6)]
    assert all(len(each) <= 2 for each in seen)
    assert {one for each in seen for one in each} == others


def test_the_hosts_next_to_ones_own_are_always_among_them(ranks: Ranks) -> None:
    all_ranks = ranks(40)
    for rank in all_ranks:  # two ranks on each of twenty hosts
        address = f"10.0.0.{1 + rank.number // 2}"
        rank.exchange(joined(address, "10.0.1.1", 7000 + 2 * rank.number)[0])
    for number, neighbours in ((0, {"10.0.0.2", "10.0.0.20"}), (7, {"10.0.0.3", "10.0.0.5"})):
        seen = [all_ranks[number].hosts(4) for _ in range(20)]
        # of eight ranks that are asked at a time, six may be of this host and of those two
        assert all(neighbours < {*each} and len(each) in (3, 4) for each in seen)
        assert len({one for each in seen for one in each}) == 19


def test_a_neighbour_that_has_not_said_where_it_is_yet_is_asked_again(ranks: Ranks) -> None:
    all_ranks = ranks(6)
    said = [0, 2, 3, 4, 5]
    for number in said:
        all_ranks[number].exchange(joined(f"10.0.0.{number}", "10.0.1.1", 7000 + 2 * number)[0])
    assert "10.0.0.5" in all_ranks[0].hosts(2)
    all_ranks[1].exchange(joined("10.0.0.1", "10.0.1.1", 7100)[0])
    assert all_ranks[0].hosts(4)[:2] == ["10.0.0.1", "10.0.0.5"]


def test_too_many_connections_are_cut_with_one_line(ranks: Ranks, caplog: pytest.LogCaptureFixture) -> None:
    (first,) = ranks(1)
    own = [joined("10.0.0.1", "10.0.0.2", port)[0] for port in range(1000, 1000 + 2 * (MAX_CONNECTIONS + 9), 2)]
    for _ in range(3):
        first.exchange(*own)
    assert len([r for r in caplog.records if "connections" in r.getMessage()]) == 1


def test_a_store_that_died_costs_what_is_new_only(ranks: Ranks) -> None:
    class Dead(dist.HashStore):  # type: ignore[misc, name-defined]  # torch is not typed here
        def set(self, *_: Any) -> None:
            raise RuntimeError("Connection reset by peer")

    first, second = ranks(2)
    near, far = joined("10.0.0.1", "10.0.0.2")
    second.exchange(far)
    assert first.exchange(near)[near].rank == 1
    first.store = Dead()
    assert first.exchange(near, joined("10.0.0.1", "10.0.0.3", 9000)[0])[near].rank == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
)
hostile = (
    st.binary(max_size=3000).map(lambda data: data.decode("latin-1"))
    | json_values.map(json.dumps)
    | st.fixed_dictionaries({"rank": json_values, "host": json_values, "address": json_values}).map(json.dumps)
    | st.just("[" * 100_000)
    | st.just(json.dumps({"rank": 1, "host": "\ud800" + "h" * 999, "address": "10.0.0.9"}))
)


@given(hostile)
@settings(max_examples=200, deadline=None)
def test_no_value_in_the_store_does_harm(value: str) -> None:
    store = dist.HashStore()
    first = Rank(0, 2, store)
    near, far = joined("10.0.0.1", "10.0.0.2")
    store.set(directory._KEY + directory._name(far), value)
    store.set(f"{directory._HOST_KEY}1", value)
    for peer in first.exchange(near).values():
        assert isinstance(peer.rank, int) and isinstance(peer.host, str) and len(peer.host) <= 255
        peer.host.encode()
    assert len(first.hosts(4)) <= 1
