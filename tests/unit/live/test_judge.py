"""Digests of many ranks, looked at again and again."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="needs torch: make test installs it")

from benchmarks.live import digests
from otel_netmon.diagnosis.finding import Kind
from otel_netmon.live.digest import pack, unpack
from otel_netmon.live.judge import Judge
from otel_netmon.live.merger import Merger
from otel_netmon.records import HostTraffic
from tests.unit.diagnosis.evidence import reading

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


def test_what_nics_and_connections_moved_is_evidence_as_long_as_it_is_recent() -> None:
    merger = Merger()
    for number in range(100):
        digest = unpack(next(digests(4, 1, late=9)))
        assert digest is not None
        at = number * 2 * 10**9
        moved = HostTraffic("eth0", 2.0, 1000 + number, 2000, 300, 400, at=at)
        of_peer = reading(1, at, 5_000_000, 0.4, 0.003, 3000, 2, backoff=3 * (number == 50))
        told = unpack(pack(digest._replace(number=number, at=at, nics=(moved,), traffic=(of_peer,))))
        assert told is not None
        merger.take(told, float(number))
    evidence = merger.evidence(100.0)
    assert [each.sent for each in evidence.nics[0]] == [*range(1092, 1100)]
    assert evidence.nics[0][-1] == moved
    of = evidence.traffic[0].peers[1]
    assert (len(of), of.at[-1], of.sent[-1], of.rtt[-1]) == (48, at, 5_000_000, 0.003)
    assert of.at[0] == 52 * 2 * 10**9
    assert evidence.backed_off[0] == {1: 50 * 2 * 10**9}
