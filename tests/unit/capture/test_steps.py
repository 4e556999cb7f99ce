"""What a step is: optimizer cycles, explicit marks, and which step a collective belongs to."""

from __future__ import annotations

import itertools

import pytest

from otel_netmon.capture.steps import StepTracker
from otel_netmon.job.steps import SETUP, Step
from otel_netmon.records import ResourceUsage


class Program:
    """Plays a training loop to a tracker and asks for each event's step, as the emitter does."""

    def __init__(self) -> None:
        self.time = itertools.count()
        self.tracker = StepTracker(clock=lambda: next(self.time))
        self.boundaries: dict[str, int] = {}
        self.steps: list[Step] = []

    def play(self, moves: str) -> Program:
        """``A``, ``B``… are optimizer steps; a lower-case letter is a collective, ``+`` a construction."""
        for move in moves.replace(" ", ""):
            if move == "+":
                self.tracker.constructed()
            elif move.isupper():
                self.tracker.optimizer_stepped(OPTIMIZERS[move])
            else:
                self.boundaries[move] = self.tracker.boundaries
        return self

    def step_of(self, event: str) -> int | None:
        closed, open_step, settled, *_ = self.tracker.take()
        self.steps += closed
        boundary = self.boundaries[event]
        for step in self.steps:
            if boundary < step.last_boundary:
                return step.index
        return open_step if boundary <= settled else None


OPTIMIZERS = {name: object() for name in "ABC"}


def test_one_optimizer_is_one_step_each() -> None:
    program = Program().play("a A b A c A d")
    assert [program.step_of(event) for event in "abcd"] == [0, 1, 2, 3]
    assert [step.index for step in program.steps] == [0, 1, 2]


def test_after_the_first_step_it_is_open_what_the_cycle_is() -> None:
    program = Program().play("a A b")
    assert program.step_of("a") == 0
    assert program.step_of("b") is None
    assert program.play("A").step_of("b") == 1


def test_two_optimizers_in_a_loop_are_one_step() -> None:
    program = Program().play("a A b B c A d B e")
    assert [program.step_of(event) for event in "abcde"] == [0, 0, 1, 1, 2]


def test_an_optimizer_inside_another_is_one_step() -> None:
    program = Program().play("a AB b AB c AB d")
    assert [program.step_of(event) for event in "abcd"] == [0, 1, 2, 3]


def test_a_step_ends_with_its_last_optimizer_and_the_next_begins_there() -> None:
    closed, *_ = Program().play("A B A B").tracker.take()
    assert [step.last_boundary for step in closed] == [2, 4]
    assert closed[0].end == closed[1].start


def test_a_second_optimizer_that_joins_later_costs_one_odd_step() -> None:
    closed, open_step, settled, *_ = Program().play("A A A  AB AB AB").tracker.take()
    assert [step.last_boundary for step in closed] == [1, 2, 3, 4, 5, 7, 9]
    assert (open_step, settled) == (7, 9)


def test_an_optimizer_that_replaces_another_is_followed() -> None:
    closed, _, settled, *_ = Program().play("A A  B B B").tracker.take()
    assert [step.last_boundary for step in closed] == [1, 2, 3, 4, 5]
    assert settled == 5


def test_explicit_steps_overrule_optimizers() -> None:
    tracker = StepTracker()
    for _ in range(3):
        with tracker.step():
            tracker.optimizer_stepped(OPTIMIZERS["A"])
            tracker.optimizer_stepped(OPTIMIZERS["A"])
    closed, open_step, *_ = tracker.take()
    assert [step.index for step in closed] == [SETUP, 0, 1, 2]
    assert open_step == 3


def test_nested_explicit_steps_are_one_and_an_exception_passes() -> None:
    tracker = StepTracker()
    with pytest.raises(ZeroDivisionError), tracker.step(), tracker.step():
        raise ZeroDivisionError
    closed, *_ = tracker.take()
    assert [step.index for step in closed] == [SETUP, 0]
    assert closed[1].complete


def test_what_is_open_at_the_end_is_incomplete() -> None:
    tracker = StepTracker()
    tracker.optimizer_stepped(OPTIMIZERS["A"])
    last = tracker.finish()
    closed, *_ = tracker.take()
    assert [(step.index, step.complete) for step in closed] == [(0, True)]
    assert (last.index, last.complete) == (1, False)


def test_steps_that_nobody_takes_are_bounded() -> None:
    tracker = StepTracker()
    for _ in range(10_000):
        tracker.optimizer_stepped(OPTIMIZERS["A"])
    closed, open_step, *_ = tracker.take()
    assert len(closed) <= 4096
    assert open_step == 10_000


def test_what_comes_before_the_last_construction_is_setup() -> None:
    program = Program().play("a + b + c")
    assert [program.step_of(event) for event in "abc"] == [None, None, None]  # another may follow
    program.play("A d + A e")  # an optimizer made between two steps is nothing special
    assert [program.step_of(event) for event in "abcde"] == [SETUP, SETUP, 0, 1, 2]
    assert [step.index for step in program.steps] == [SETUP, 0, 1]


def test_without_a_construction_there_is_no_setup() -> None:
    program = Program().play("a A b A")
    assert [program.step_of(event) for event in "ab"] == [0, 1]


def test_a_step_has_what_was_used_in_it() -> None:
    total = iter(range(0, 1000, 10))
    tracker = StepTracker(read=lambda: ResourceUsage(wait=next(total)))
    tracker.begin()
    tracker.optimizer_stepped(OPTIMIZERS["A"])
    tracker.optimizer_stepped(OPTIMIZERS["A"])
    closed, *_ = tracker.take()
    assert [step.used.wait for step in closed] == [10, 10]
    assert closed[0].used.cpu is None


def test_how_long_nothing_was_marked() -> None:
    program = Program()
    program.tracker.begin()
    assert program.tracker.unmarked() > 0
    program.play("A")
    assert program.tracker.unmarked() == 0


class Counted(Program):
    """With collectives of all ranks: each event is one."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = 0
        self.tracker = StepTracker(clock=lambda: next(self.time), begun=lambda: self.begun)

    def play(self, moves: str) -> Program:
        for move in moves.replace(" ", ""):
            if move.islower():
                self.begun += 1
            super().play(move)
        return self

    def keys(self) -> list[str]:
        return [step.key for step in self.tracker.take().closed if step.index != SETUP]


def test_steps_are_named_by_what_all_ranks_began_before() -> None:
    even, skipping = Counted(), Counted()
    even.play("ab A cd A ef A gh A")
    skipping.play("ab A cd   ef A gh A")  # one update less
    assert even.keys() == ["0.0", "2.0", "4.0", "6.0"]
    assert skipping.keys() == ["0.0", "2.0", "6.0"]
    assert even.tracker.take().open_key == skipping.tracker.take().open_key == "8.0"


def test_steps_without_collectives_are_told_apart_by_their_count() -> None:
    program = Counted()
    program.play("a A A A b A")
    assert program.keys() == ["0.0", "1.0", "1.1", "1.2"]


def test_an_optimizer_of_one_ranks_own_shifts_nothing_for_long() -> None:
    one, other = Counted(), Counted()
    one.play("a A b A B c A d A e A")
    other.play("a A b A c A d A e A")
    assert one.keys()[-2:] == other.keys()[-2:]


def test_another_job_ends_what_is_open_and_counts_anew() -> None:
    program = Counted()
    program.tracker.joined(again=False)
    program.play("+ ab A cd A e")
    program.begun = 0
    program.tracker.joined(again=True)
    program.play("f A g A")
    marks = program.tracker.take()
    assert [(step.index, step.complete) for step in marks.closed] == [
        *((SETUP, True), (0, True), (1, True), (2, False), (3, True), (4, True)),
    ]
    assert [step.key for step in marks.closed[4:]] == ["0.0", "1.0"]
    boundaries = [marks.closed[3].last_boundary, program.boundaries["f"]]
    assert program.boundaries["e"] < boundaries[0] <= boundaries[1]  # what came before is not of the new job


def test_before_any_construction_it_is_setup_whatever_comes() -> None:
    program = Program()
    program.tracker.from_the_start = True
    program.play("a")
    assert program.tracker.take().setup_until > program.boundaries["a"]
    program.play("+ b")
    until = program.tracker.take().setup_until
    assert program.boundaries["a"] < until <= program.boundaries["b"]
    late = Program().play("a")  # we came later, perhaps after an optimizer
    assert late.tracker.take().setup_until == 0
