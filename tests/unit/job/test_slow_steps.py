"""Which steps are slow: a rule for one rank, and one word for all."""

from __future__ import annotations

from otel_netmon.job.slow_steps import MOST, Judged, SlowRule, SlowSteps


def slow_ones(seconds: list[float]) -> list[int]:
    rule = SlowRule()
    return [number for number, each in enumerate(seconds) if rule.takes(each)]


def test_a_step_is_slow_by_the_running_median() -> None:
    assert slow_ones([1.0] * 20 + [1.19, 1.21, 1.0, 9.0]) == [21, 23]
    assert slow_ones([9.0, *[1.0] * 7, 9.0]) == [8]
    assert slow_ones([9.0, *[1.0] * 6, 9.0]) == []  # too few before


def test_a_job_that_got_slower_for_good_is_slow_for_a_while_only() -> None:
    found = slow_ones([1.0] * 100 + [1.5] * 300)
    assert 8 <= len(found) <= 8 + 300 * 0.05 and found[0] == 100
    assert found[-1] < 140  # the median has followed


def test_what_is_much_too_slow_does_not_drown_in_what_is_a_little() -> None:
    seconds = [1.0, 1.0, 1.3] * 200
    few = len(slow_ones(seconds))
    assert 600 * 0.05 <= few <= 600 * 0.05 + 8
    seconds[300:600:60] = [3.0] * 5
    found = slow_ones(seconds)
    assert {*range(300, 600, 60)} <= {*found} and len(found) <= few + 5


def play(of: SlowSteps, seconds: list[float]) -> list[bool | None]:
    found = []
    for number, each in enumerate(seconds):
        of.closed(number, 100 + number, each)
        found.append(of.verdict(number, 100 + number))
    return found


def verdicts(of: SlowSteps, count: int) -> list[bool | None]:
    return [of.verdict(number, 100 + number) for number in range(count)]


STEPS = [1.0] * 10 + [2.0, 1.0]


def test_a_rank_alone_goes_by_its_own_steps() -> None:
    assert play(SlowSteps(), STEPS) == [False] * 10 + [True, False]


def test_others_go_by_what_the_leader_says() -> None:
    leader, other = SlowSteps(), SlowSteps()
    for each in leader, other:
        each.share(True)
    assert leader.lead() == Judged()
    assert play(leader, STEPS) == [False] * 10 + [True, False]
    # this rank's own step 10 was short, and its step 11 slow: it does not matter
    assert play(other, [*STEPS[:10], 1.0, 2.0]) == [None] * 12
    other.hear(Judged(8, ()))
    assert verdicts(other, 12) == [False] * 7 + [None] * 5
    other.hear(leader.lead())  # which has judged step 11: who counts one more is not told something else
    assert verdicts(other, 12) == [False] * 10 + [True, None]


def test_what_the_leader_does_not_come_to_say_is_whole_where_it_may_be_slow() -> None:
    other = SlowSteps()
    other.share(True)
    play(other, [*STEPS, 1.15, 1.05])
    other.hear(Judged(10, ()))
    assert verdicts(other, 14) == [False] * 9 + [None] * 5
    assert [other.without_a_word(100 + number) for number in range(9, 14)] == [False, True, False, True, False]
    other.share(False)  # nobody speaks any more
    assert verdicts(other, 14) == [False] * 9 + [False, True, False, True, False]


def test_who_leads_next_goes_by_its_own_and_who_led_by_the_next() -> None:
    first, second = SlowSteps(), SlowSteps()
    for each in first, second:
        each.share(True)
    first.lead()
    second.hear(Judged())
    second.lead()
    first.hear(Judged(4, (99,)))
    second.closed(5, 105, 1.0)
    assert second.verdict(5, 105) is False
    assert first.verdict(5, 99) is True and first.verdict(5, 105) is None


def test_what_is_told_is_bounded() -> None:
    leader = SlowSteps()
    for tie in range(3000):
        leader.closed(tie, tie, 2.0 if tie % 20 == 19 else 1.0)
    assert leader.lead() == Judged(2999, tuple(range(2999 - 20 * (MOST - 1), 3000, 20)))
