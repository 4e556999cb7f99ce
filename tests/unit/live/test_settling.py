"""A finding is told when two looks agree, once; and when it has been gone for a while."""

from __future__ import annotations

from otel_netmon.diagnosis.finding import Finding, Kind
from otel_netmon.live.settling import GONE, Settling, mark_of

SLOW = Finding(Kind.SLOW_RANK, "Rank 2 comes late.", ranks=(2,), first_step=3)
LINK = Finding(Kind.SLOW_LINK, "A link is slow.", hosts=("h1",))
NOTHING = Finding(Kind.NOTHING, "Nothing stands out.")


def test_one_look_is_not_enough() -> None:
    settling = Settling()
    assert settling.look([SLOW]) == []
    assert settling.look([LINK]) == []
    assert settling.look([SLOW]) == []


def test_it_is_told_once_though_its_numbers_change() -> None:
    settling = Settling()
    settling.look([SLOW])
    later = Finding(Kind.SLOW_RANK, "Rank 2 comes later.", ranks=(2,), first_step=8)
    assert [(change.finding, change.is_over) for change in settling.look([later])] == [(later, False)]
    assert settling.look([SLOW, NOTHING]) == []
    assert list(settling.told.values()) == [SLOW]


def test_it_is_over_after_some_looks_without_it() -> None:
    settling = Settling()
    settling.look([SLOW])
    settling.look([SLOW])
    for _ in range(GONE - 1):
        assert settling.look([NOTHING]) == []
    assert settling.look([SLOW]) == []  # back again: it was not over
    for _ in range(GONE - 1):
        settling.look([])
    assert [(change.finding, change.is_over) for change in settling.look([])] == [(SLOW, True)]
    assert not settling.told


def test_another_step_that_stood_still_is_another_finding() -> None:
    settling = Settling()
    stops = [Finding(Kind.PAUSED, "x", ranks=(1,), first_step=step) for step in (5, 9)]
    settling.look(stops[:1])
    settling.look(stops)
    assert len(settling.told) == 1
    settling.look(stops)
    assert len(settling.told) == 2


def test_pauses_take_a_look_more() -> None:
    settling = Settling()
    pauses = Finding(Kind.PAUSES, "Rank 2 pauses again and again.", ranks=(2,))
    assert [len(settling.look([pauses])) for _ in range(4)] == [0, 0, 1, 0]


def test_what_is_not_told_yet_is_pending() -> None:
    settling = Settling()
    pending = []
    for findings in [NOTHING], [SLOW], [SLOW], [SLOW, LINK], [SLOW]:
        settling.look(findings)
        pending.append(settling.is_pending)
    assert pending == [False, True, False, True, False]


def test_what_another_has_told_is_not_told_again_and_is_over_some_time() -> None:
    first = Settling()
    first.look([SLOW])
    first.look([SLOW])
    second = Settling(map(mark_of, first.told))
    assert [len(second.look([SLOW, LINK])) for _ in range(3)] == [0, 1, 0]
    ends = [[(each.finding, each.is_over) for each in second.look([LINK])] for _ in range(GONE)]
    assert ends == [*[[]] * (GONE - 1), [(SLOW, True)]]
    late = Settling(map(mark_of, first.told))
    for _ in range(3 * GONE):
        late.look([])
    assert [len(late.look([SLOW])) for _ in range(2)] == [0, 1]  # that is another time


def test_that_there_is_nothing_is_never_told() -> None:
    settling = Settling()
    for _ in range(3):
        assert settling.look([NOTHING, Finding(Kind.INSUFFICIENT, "too little")]) == []
