"""Digests of many ranks, looked at again and again."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs torch: make test installs it")

from benchmarks.live import digests
from otel_netmon.diagnosis.finding import Kind
from otel_netmon.live.judge import Judge

RANKS = 200


def test_one_late_rank_of_many_is_told_once_and_others_get_their_turn_meanwhile() -> None:
    turns: list[int] = []
    judge = Judge(lambda: turns.append(1))
    told = []
    for number in range(1, 10):
        turns.clear()
        look = judge.look(2.0 * number, enumerate(digests(RANKS, number, late=77)))
        assert len(turns) >= 2 * RANKS, "each digest, and each rank's readings"
        assert look.heard == RANKS and look.cost > 0
        told += look.changes
    assert [(change.finding.kind, change.finding.ranks, change.is_over) for change in told] == [
        (Kind.SLOW_RANK, (77,), False)
    ]
    assert [finding.ranks for finding in look.told.values()] == [(77,)]
    assert look.last_step == 9 * 4 + 7


def test_what_is_in_the_key_of_another_rank_is_not_believed() -> None:
    some = list(digests(4, 1, late=9))
    look = Judge().look(1.0, [(0, some[0]), (1, some[2]), (2, b"nonsense"), (3, some[3])])
    assert look.heard == 2
