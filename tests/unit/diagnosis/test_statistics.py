"""Comparisons are what their definition says, whatever is missing."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_netmon.diagnosis.evidence import Evidence
from otel_netmon.diagnosis.medians import median, rise
from otel_netmon.diagnosis.statistics import Window
from otel_netmon.diagnosis.steps import StepSample, StepTable

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
