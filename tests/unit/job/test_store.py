"""The one client of the job's store: nothing in it waits, raises, or reads without bounds."""

from __future__ import annotations

import weakref
from datetime import timedelta
from typing import Any

import pytest

from otel_netmon.job.store import MAX_VALUE, JobStore, default_group, store_of

dist = pytest.importorskip("torch.distributed", reason="pip install torch")


def test_what_is_written_is_read_and_what_is_not_is_not_waited_for() -> None:
    store = JobStore(dist.PrefixStore("a", dist.HashStore()))
    assert store.read("key") is None  # HashStore.get would wait for 300 s
    assert store.write("key", "välue") and store.read("key") == "välue"
    assert store.write("long", "x" * (MAX_VALUE + 1)) and store.read("long") == "x" * MAX_VALUE


def test_what_is_written_once_is_below_all_prefixes_and_stays() -> None:
    base = dist.HashStore()
    first, second = (JobStore(dist.PrefixStore("b", dist.PrefixStore(name, base))) for name in "12")
    assert [store.write_once("key", name) for store, name in ((first, "one"), (second, "two"))] == ["one", "one"]


class Dead:
    asked = 0

    def __getattr__(self, name: str) -> Any:
        if name in ("underlying_store", "host", "port", "path"):
            raise AttributeError(name)
        type(self).asked += 1
        raise RuntimeError("Connection reset by peer")


def test_a_store_that_died_is_asked_once() -> None:
    store = JobStore(Dead())
    assert store.read("key") is None and not store.write("key", "value")
    assert store.write_once("key", "mine") == "mine"
    assert Dead.asked == 1 and not store.answers


def test_one_store_by_two_clients_is_the_same() -> None:
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, timeout=timedelta(seconds=10))
    client = dist.TCPStore("127.0.0.1", server.port, is_master=False, timeout=timedelta(seconds=10))
    one, other, third = JobStore(server), JobStore(dist.PrefixStore("p", client)), JobStore(dist.HashStore())
    assert one.address == other.address == ("127.0.0.1", server.port) and third.address is None
    assert one.is_same_as(other) and not one.is_same_as(third) and not third.is_same_as(JobStore(dist.HashStore()))


def test_the_default_group_is_found_as_long_as_it_is_there() -> None:
    assert default_group() is None
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    ref = weakref.ref(default_group())
    assert ref() is dist.group.WORLD
    store, again = store_of(ref), store_of(ref)
    assert store is not None and store.write("key", "value")
    assert again is not None and again.read("key") == "value"
    dist.destroy_process_group()
    assert default_group() is None and store_of(ref) is None
