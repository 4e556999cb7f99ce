"""The ring: bounded, counted, and right under many threads."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from otel_netmon.capture.event import CollectiveEvent, CollectiveKind, Failure
from otel_netmon.capture.operations import OPERATIONS
from otel_netmon.capture.ring import EventRing
from otel_netmon.job.groups import Group

GROUP = Group("0", 2, 0, "gloo")
ALL_REDUCE = OPERATIONS["allreduce_"]


def event(start: int = 0) -> CollectiveEvent:
    return CollectiveEvent(CollectiveKind(ALL_REDUCE, GROUP), start, 0)


@pytest.fixture
def eager_switching() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_finished_events_come_out_once_and_in_order() -> None:
    ring = EventRing(8)
    events = [event(i) for i in range(3)]
    for one in events:
        ring.begin(one)
    for one in reversed(events):
        ring.finish(one, 9, None)
        ring.finish(one, 10, Failure("again"))
    assert ring.drain() == events[::-1]
    assert ring.drain() == []
    assert [one.end for one in events] == [9, 9, 9]


def test_a_full_ring_drops_the_oldest_and_counts() -> None:
    ring = EventRing(4)
    for i in range(10):
        one = event(i)
        ring.begin(one)
        ring.finish(one, i, None)
    assert [one.start for one in ring.drain()] == [6, 7, 8, 9]
    assert ring.overwritten == 6


def test_events_that_never_finish_are_bounded_too() -> None:
    ring = EventRing(4)
    events = [event(i) for i in range(6)]
    assert [ring.begin(one) for one in events] == [True] * 4 + [False] * 2
    assert ring.in_flight() == events[:4]
    assert ring.overwritten == 2


def test_an_abandoned_event_does_not_come_back() -> None:
    ring = EventRing(4)
    one = event()
    ring.begin(one)
    assert ring.abandon() == [one]
    ring.finish(one, 1, None)
    assert ring.drain() == []


def test_active_counts_what_is_in_flight() -> None:
    ring = EventRing(4)
    one, two = event(), event()
    ring.begin(one)
    ring.begin(two)
    assert ring.active() == {(GROUP, ALL_REDUCE, True): 2}
    ring.finish(one, 1, None)
    assert ring.active() == {(GROUP, ALL_REDUCE, True): 1}


@pytest.mark.usefixtures("eager_switching")
def test_many_threads_lose_nothing() -> None:
    ring = EventRing(256)
    taken: list[CollectiveEvent] = []
    stop = threading.Event()

    def work() -> None:
        for i in range(1000):
            one = event(i)
            ring.begin(one)
            ring.finish(one, i, None)

    def drain() -> None:
        while not stop.is_set():
            taken.extend(ring.drain(32))
            ring.active()

    drainer = threading.Thread(target=drain)
    writers = [threading.Thread(target=work) for _ in range(20)]
    drainer.start()
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    stop.set()
    drainer.join(60)
    taken.extend(ring.drain())
    assert len(taken) + ring.overwritten == 20_000
    assert len(set(map(id, taken))) == len(taken)
    assert ring.in_flight() == []
