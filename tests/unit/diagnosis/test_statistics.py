"""Comparisons are what their definition says, whatever is missing."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_netmon.diagnosis.evidence import Evidence
from otel_netmon.diagnosis.medians import median, rise
from otel_netmon.diagnosis.statistics import Window, standing_out
from otel_netmon.diagnosis.steps import StepRows, StepSample, StepTable
from otel_netmon.diagnosis.traffic import Traffic
from tests.unit.diagnosis.evidence import reading

values = st.none() | st.floats(0, 10, allow_nan=False)


def window_of(rows: list[list[float | None]]) -> Window:
    evidence = Evidence(len(rows[0]))
    for number, row in enumerate(rows):
        table = evidence.steps[number] = StepTable()
        for rank, value in enumerate(row):
            table.add(rank, StepSample(0, 10**9, 0.5, data=value))
    return Window(evidence, range(len(rows)))


@given(
    st.integers(2, 9).flatmap(
        lambda ranks: st.lists(st.lists(values, min_size=ranks, max_size=ranks), min_size=1, max_size=6)
    )
)
def test_excess_is_over_the_median_of_the_others(rows: list[list[float | None]]) -> None:
    compared = window_of(rows).compare("data")
    for rank in range(len(rows[0])):
        expected, baselines = [], []
        for row in rows:
            others = [value for other, value in enumerate(row) if other != rank and value is not None]
            if (value := row[rank]) is not None and others:
                expected.append(value - statistics.median(others))
                baselines.append(statistics.median(others))
        assert compared.excess(rank) == pytest.approx(expected)
        baseline = compared.baseline(rank)
        assert baseline == pytest.approx(statistics.median(baselines)) if baselines else math.isnan(baseline)


@given(st.lists(st.lists(st.floats(0, 1), min_size=80, max_size=80), min_size=5, max_size=5), st.floats(0.05, 0.5))
def test_with_many_ranks_none_that_is_always_above_is_missed(rows: list[list[float]], more: float) -> None:
    """Ranks are looked at step by step only if their own median stands out: one that always has more does."""
    for row in rows:
        row[:] = [0.1 + 0.001 * value for value in row]
        row[17] += more
    assert window_of([list(row) for row in rows]).compare("data").above(more / 2) == [17]


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ([], 0),
        ([1.0], 0),
        ([1.0, 1.1, 0.9, 1.0, 2.0, 2.1, 1.9], 4),
        ([1.0, 2.0, 1.0, 2.0, 1.0, 2.0], 0),
        ([2.0, 2.0, 2.0, 1.0, 1.0, 1.0], 0),
        ([1.0, 1.0, 1.0, 1.05, 1.05, 1.05], 0),
        ([1.0, math.nan, 2.0], 0),
    ],
)
def test_where_values_rise(values: list[float], place: int) -> None:
    assert rise(values) == place


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=9))
def test_median(some: list[float]) -> None:
    assert median(some) == statistics.median(some)
    assert math.isnan(median([]))


def test_as_many_stand_out_as_a_job_is_large() -> None:
    assert standing_out({1: 6, 2: 2, 3: 1}, 4) == {1: 2}
    assert standing_out({1: 6, 2: 3}, 4) == {}
    two = {1: 9, 2: 8, 3: 2, 4: 2}
    assert standing_out(two, 63) == {}
    assert standing_out(two, 64) == {1: 2, 2: 2}
    assert standing_out({}, 1000) == {}
    assert len(standing_out(dict.fromkeys(range(8), 9) | {8: 2}, 10_000)) == 8
    assert standing_out(dict.fromkeys(range(9), 9) | {9: 2}, 10_000) == {}


times = st.integers(0, (1 << 63) - 1)
seconds = st.none() | st.floats(0, 1e6, allow_nan=False)
counts = st.none() | st.integers(0, (1 << 63) - 1)
samples = st.builds(StepSample, times, times, *[seconds] * 7, counts, counts, seconds)


@given(st.lists(st.tuples(times, times, samples), max_size=5))
def test_rows_of_samples_give_back_what_was_put_in(rows: list[tuple[int, int, StepSample]]) -> None:
    kept = StepRows()
    for each in rows:
        kept.add(*each)
    assert list(kept) == rows
    assert len(kept) == len(rows)
    assert list(kept.numbered()) == [each[:2] for each in rows]


def test_readings_are_put_in_order() -> None:
    readings = [reading(1, at, 1000 * at, 0.5, 0.003, 10, 0) for at in (5, 2, 9, 2, 7)]
    first, second, sorted_ones = Traffic(), Traffic(), Traffic(readings)
    for each in readings[:3]:
        first.add(each)
    for each in readings[3:]:
        second.add(each)
    first.merge(second)
    first.put_in_order()
    assert list(first.peers[1].at) == list(sorted_ones.peers[1].at) == [2, 2, 5, 7, 9]
    assert list(first.peers[1].sent) == list(sorted_ones.peers[1].sent)
