"""What the collectives of an interval add up to, against plain sums over the same intervals."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from otel_netmon.capture.event import CollectiveEvent, CollectiveKind
from otel_netmon.emit.interval_stats import IntervalStats
from otel_netmon.job.groups import Group
from tests.unit.emit.a_rank import ALL_REDUCE

GROUP = Group("0", 2, 0, "gloo")
KINDS = {is_async: CollectiveKind(ALL_REDUCE, GROUP, 4, is_async=is_async) for is_async in (True, False, None)}
Call = tuple[bool | None, int, int]


def stats_of(calls: list[Call]) -> IntervalStats:
    events = []
    for number, (is_async, start, length) in enumerate(calls):
        event = CollectiveEvent(KINDS[is_async], start, 0, number + 1)
        event.end = start + length
        events.append(event)
    stats = IntervalStats()
    stats.add(sorted(events, key=lambda event: event.end or 0))
    return stats


def issuing(calls: list[Call]) -> int | None:
    return stats_of(calls).sums(0, 10_000).issuing


def test_until_the_last_asynchronous_one_began() -> None:
    buckets: list[Call] = [(True, 10, 90), (True, 30, 60), (True, 70, 40)]
    assert issuing(buckets) == 70
    assert issuing([*buckets, (False, 120, 50)]) == 70


def test_what_blocked_the_caller_before_is_not_its_own_time() -> None:
    assert issuing([(False, 5, 10), (True, 20, 90)]) == 10
    assert issuing([(False, 5, 10), (False, 8, 10), (True, 20, 90)]) == 7  # of two threads
    assert issuing([(False, 5, 100), (True, 20, 90)]) == 5  # another thread issued it


def test_where_none_is_asynchronous_it_is_not_known() -> None:
    assert issuing([(False, 5, 10), (None, 20, 90)]) is None


def test_thousands_that_blocked_their_caller_are_not_remembered() -> None:
    many: list[Call] = [(False, start, 1) for start in range(5000)]
    assert issuing([*many, (True, 6000, 1)]) is None
    assert issuing([*many[:4000], (True, 6000, 1)]) == 2000


@given(
    st.lists(st.tuples(st.sampled_from([True, False, None]), st.integers(0, 60), st.integers(1, 30)), max_size=12),
    st.integers(0, 80),
)
def test_times_are_those_of_every_nanosecond(calls: list[Call], end: int) -> None:
    found = stats_of(calls).sums(0, end)
    assert found.busy == sum(
        any(start <= now < start + length for _, start, length in calls) for now in range(end)
    )
    last = max((start for is_async, start, _ in calls if is_async), default=None)
    blocking = [(start, start + length) for is_async, start, length in calls if not is_async]
    expected = None if last is None else sum(not any(a <= now < b for a, b in blocking) for now in range(last))
    assert found.issuing == expected
