"""Which steps are slow: a rule for one rank, and one word for all."""

from __future__ import annotations

from otel_netmon.job.slow_steps import MOST, SlowRule, SlowSteps


def slow_ones(seconds: list[float]) -> list[int]:
    rule = SlowRule()
    return [number for number, each in enumerate(seconds) if rule.takes(each)]


def test_a_step_is_slow_by_the_running_median() -> None:
    assert slow_ones([1.0] * 20 + [1.19, 1.21, 1.0, 9.0]) == [21, 23]
    assert slow_ones([9.0, *[1.0] * 7, 9.0]) == [8]
    assert slow_ones([9.0, *[1.0] * 6, 9.0]) == []  # too few before


def test_a_job_that_got_slower_for_good_is_slow_for_a_while_only() -> None:
    found = slow_ones([1.0] * 100 + [2.0] * 300)
    assert 8 <= len(found) <= 8 + 300 * 0.05 and found[0] == 100
    assert found[-1] < 140  # the median has followed


def play(of: SlowSteps, seconds: list[float]) -> list[bool | None]:
    return [of.verdict(tie, of.closed(tie, each)) for tie, each in enumerate(seconds)]


STEPS = [1.0] * 10 + [2.0, 1.0]


def test_a_rank_alone_goes_by_its_own_steps() -> None:
    assert play(SlowSteps(), STEPS) == [False] * 10 + [True, False]


def test_others_go_by_what_the_leader_says() -> None:
    leader, other = SlowSteps(), SlowSteps()
    for each in leader, other:
        each.share(True)
    assert leader.lead() == ()
    assert play(leader, STEPS) == [False] * 10 + [True, False]
    # this rank's own step 4 was short, and its step 11 slow: it does not matter
    own = [*STEPS[:10], 1.0, 2.0]
    assert play(other, own) == [None] * 12
    other.hear(leader.lead())
    assert [other.verdict(tie, 0) for tie in range(12)] == [None] * 10 + [True, None]
    other.hear(leader.lead())  # the first word may have been older than the step
    assert [other.verdict(tie, 0) for tie in range(12)] == [False] * 10 + [True, False]
    assert other.verdict(11, since=2) is None
    assert other.own_verdict(11) and not other.own_verdict(10)
    other.share(False)  # nobody speaks any more
    assert (other.verdict(11, since=2), other.verdict(10, since=2)) == (True, True)


def test_who_leads_next_goes_by_its_own_and_who_led_by_the_next() -> None:
    first, second = SlowSteps(), SlowSteps()
    for each in first, second:
        each.share(True)
    first.lead()
    second.hear(())
    second.lead()
    first.hear((99,))
    assert second.verdict(5, second.closed(5, 1.0)) is False
    assert first.verdict(99, 0) is True and first.verdict(98, first.closed(98, 1.0)) is None


def test_what_is_told_is_bounded() -> None:
    leader = SlowSteps()
    for tie in range(3000):
        leader.closed(tie, 2.0 if tie % 20 == 19 else 1.0)
    assert leader.lead() == tuple(range(2999 - 20 * (MOST - 1), 3000, 20))
