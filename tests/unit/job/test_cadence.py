"""Every Nth step is the same one on all ranks, also after one of them did a step more or less than the others."""

from __future__ import annotations

from otel_netmon.job.cadence import Cadence
from otel_netmon.job.steps import SETUP, Step
from otel_netmon.job.store import JobStore

from .test_identity import Store


def play(cadence: Cadence, steps: list[tuple[int, str]]) -> list[str]:
    """The keys of those that are taken; each step is looked at while it is open, and then ends."""
    taken = []
    for number, key in steps:
        cadence.poll()
        if cadence.takes(number, key):
            taken.append(key)
        cadence.closed(Step(number, number + 1, 0, 1, key=key))
    return taken


def keys(begun: list[int]) -> list[tuple[int, str]]:
    return [(number, f"{count}.0") for number, count in enumerate(begun)]


def ranks(every: int = 5) -> tuple[Cadence, Cadence]:
    store = JobStore(Store())
    return Cadence(every, is_first=True, store=lambda: store), Cadence(every, store=lambda: store)


def test_in_a_regular_job_it_goes_by_the_numbers() -> None:
    first, other = ranks()
    # DDP makes its buckets anew after the first step: that one has another number of collectives
    regular = keys([3, 4, *range(10, 400, 6)])
    expected = [key for number, key in regular if number % 5 == 0]
    assert play(first, regular) == expected
    assert play(other, regular) == expected


def test_it_is_the_same_steps_on_a_rank_that_has_counted_one_more() -> None:
    first, other = ranks()
    regular = keys([*range(0, 600, 6)])
    shifted = [(number + 1, key) for number, key in regular]
    chosen = play(first, regular)
    play(other, shifted[:8])  # it asks then: before, the first rank cannot know
    assert play(other, shifted[8:]) == [key for key in chosen if key in dict(shifted[8:]).values()]


def test_the_store_is_asked_once_a_step_and_not_before_there_can_be_an_answer() -> None:
    asked = []
    step = 0

    def store() -> None:
        asked.append(step)

    other = Cadence(5, store=store)
    for step, (_, key) in enumerate(keys(list(range(0, 72, 6))), 1):
        other.closed(Step(step, step + 1, 0, 1, key=key))
        for _ in range(4):
            other.poll()
    assert asked == [8, 9, 10, 11, 12]


def test_without_a_word_of_the_first_rank_it_goes_by_the_numbers() -> None:
    lonely = Cadence(3, store=lambda: None)
    assert play(lonely, keys(list(range(0, 60, 6)))) == ["0.0", "18.0", "36.0", "54.0"]
    assert play(lonely, [(4, "no key"), (6, "")]) == [""]


def test_steps_without_collectives_of_all_ranks_go_by_the_numbers() -> None:
    first, _ = ranks(4)
    steps = [(number, f"7.{number}") for number in range(30)]
    assert play(first, steps) == [f"7.{number}" for number in range(0, 30, 4)]


def test_every_step_costs_no_look_at_the_store() -> None:
    def store() -> JobStore:
        raise AssertionError

    assert len(play(Cadence(1, is_first=True, store=store), keys(list(range(20))))) == 20


def test_what_others_wrote_there_is_not_believed() -> None:
    for nonsense in ("", "x", "1", "1 2 3", "0 0", "5 -3", f"0 {1 << 60}"):
        store = JobStore(Store())
        store.write("otel_netmon/cadence", nonsense)
        cadence = Cadence(3, store=lambda store=store: store)  # type: ignore[misc]  # mypy infers no lambda with defaults
        cadence.closed(Step(SETUP, 0, 0, 1, key="0.0"))
        assert play(cadence, keys(list(range(0, 72, 6)))) == ["0.0", "18.0", "36.0", "54.0"]
