"""Each step is told twice, and of many the same ones on all ranks."""

from __future__ import annotations

import random
import time

import pytest

from otel_netmon.diagnosis.steps import StepSample
from otel_netmon.live.digest import MOST_PEERS, MOST_STEPS, Digest
from otel_netmon.live.outbox import AT_ONCE, Outbox, Standing
from tests.unit.diagnosis.evidence import reading

SAMPLE = StepSample(0, 10**9, 0.5)


def outbox(rank: int = 0) -> Outbox:
    return Outbox(rank, 4, "h", clock=time.monotonic_ns, standing=Standing)


def numbers(digest: Digest) -> list[int]:
    return [step.number for step in digest.steps]


def test_each_step_is_in_two_digests() -> None:
    box = outbox()
    for number in range(3):
        box.step(number, number, SAMPLE)
    assert numbers(box.next()) == [0, 1, 2]
    box.step(3, 3, SAMPLE)
    assert numbers(box.next()) == [0, 1, 2, 3]
    assert numbers(box.next()) == [3]
    assert numbers(box.next()) == []


@pytest.mark.parametrize("per_digest", [10, 40, 100, 1000])
def test_ranks_that_are_quick_tell_the_same_steps(per_digest: int) -> None:
    """Whenever each of them writes its digest, half of what one tells is told by all, and enough to compare."""
    noise, stride = random.Random(1), 1
    boxes, told = [outbox(rank) for rank in range(4)], [set[int]() for _ in range(4)]
    ties = [noise.getrandbits(32) for _ in range(per_digest * 20)]
    for number, tie in enumerate(ties):
        for rank, box in enumerate(boxes):
            box.step(number, tie, SAMPLE)
            if number % per_digest == (rank * 7) % per_digest:
                stride = box.suited() if rank == 0 else stride
                digest = box.next()
                box.tell_every(stride)
                assert len(digest.steps) <= (3 * AT_ONCE if number > per_digest * 4 else MOST_STEPS)
                told[rank].update(numbers(digest))
    last = set(range(per_digest * 10, per_digest * 19))
    common = set.intersection(*told) & last
    assert all(2 * len(common) >= len(some & last) for some in told)
    assert len(common) >= min(len(last), 9 * AT_ONCE // 3)


def test_a_stride_that_grows_holds_for_what_is_still_to_be_told() -> None:
    box = outbox()
    for number in range(8):
        box.step(number, number, SAMPLE)
    assert numbers(box.next()) == [*range(8)]
    for number in range(8, 12):
        box.step(number, number, SAMPLE)
    for nonsense in (0, 3, -2, 1 << 40):
        box.tell_every(nonsense)
    assert box.stride == 1
    box.tell_every(4)
    box.step(12, 12, SAMPLE)
    box.step(13, 13, SAMPLE)
    assert numbers(box.next()) == [0, 4, 8, 12]
    assert numbers(box.next()) == [8, 12]


def test_the_stride_suits_the_pace() -> None:
    box = outbox()
    for number in range(AT_ONCE * 5):
        box.step(number, number, SAMPLE)
    assert box.suited() == 8
    box.next()
    box.tell_every(8)
    assert box.suited() == 4  # nothing came: a hang does not throw it over at once


def test_connections_that_stand_still_are_told_first() -> None:
    box = outbox()
    for peer in range(100):
        box.traffic([reading(peer, peer, peer * 1000, 0.1, 0.001, 1, 0, backoff=3 * (peer == 50))])
    digest = box.next()
    assert len(digest.traffic) == MOST_PEERS
    assert 50 in [each.peer for each in digest.traffic]
    assert box.next().traffic == ()
