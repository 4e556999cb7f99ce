"""What a rank tells the others every two seconds, in few bytes, and what is read of it.

JSON of rows of integers, because one rank reads those of all others, and the standard library parses that in C:
some 90 bytes for each step, 70 for each peer and NIC, and the last calls only while something hangs. Times are
nanoseconds of the rank's own clock, durations µs. What is read is not trusted: ``unpack`` gives ``None`` for
anything but a digest of this version.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from otel_netmon.diagnosis.evidence import CallSeen
from otel_netmon.diagnosis.steps import StepSample
from otel_netmon.records import HostTraffic, PeerTraffic
from otel_netmon.text import bounded

VERSION: Final = 2
MOST_STEPS: Final = 64
MOST_PEERS: Final = 16
MOST_GROUPS: Final = 16
MOST_NICS: Final = 8
MOST_CALLS: Final = 32
MOST_BYTES: Final = 1 << 14
"""Of a digest that is read."""
_LARGEST: Final = 1 << 62
_WHOLE: Final = {int, type(None)}


class DigestedStep(NamedTuple):
    """A step by its number on this rank, and by what ties it to the same step of other ranks."""

    number: int
    tie: int
    """32 bits that are the same on every rank."""
    sample: StepSample


class GroupHead(NamedTuple):
    """How far a rank is in a group; -1: nowhere yet."""

    group: str
    size: int
    issued: int
    ended: int


class DigestedCall(NamedTuple):
    """One of the last calls of a rank that is stuck."""

    group: str
    sequence: int
    call: CallSeen


class Digest(NamedTuple):
    """All that a rank tells."""

    rank: int
    world_size: int
    host: str
    number: int
    """Of the digests that it sent: whether this is a new one."""
    at: int
    open_since: int | None
    """Start of the open step."""
    is_last: bool
    """The rank's part in the job ended in good order."""
    throttled: int | None
    """µs for which its cgroup was throttled so far."""
    steps: tuple[DigestedStep, ...] = ()
    traffic: tuple[PeerTraffic, ...] = ()
    groups: tuple[GroupHead, ...] = ()
    calls: tuple[DigestedCall, ...] = ()
    nics: tuple[HostTraffic, ...] = ()


def pack(digest: Digest) -> bytes:
    """``digest`` as bytes; the newest of what is too much. Some 2 µs for each row."""
    calls = digest.calls[-MOST_CALLS:]
    names = list(dict.fromkeys(name for each in calls for name in (each.call.operation, each.call.error or "")))
    rows = [
        [VERSION, *digest[:8]],
        [_step_row(each) for each in digest.steps[-MOST_STEPS:]],
        [_peer_row(each) for each in digest.traffic[-MOST_PEERS:]],
        [list(each) for each in digest.groups[-MOST_GROUPS:]],
        names,
        [_call_row(each, names) for each in calls],
        [list(_nic_row(each)) for each in digest.nics[-MOST_NICS:]],
    ]
    return json.dumps(rows, separators=(",", ":")).encode()


def unpack(data: bytes, is_new: Callable[[int], bool] = lambda _: True) -> Digest | None:
    """The digest in ``data``, without the steps that are not new by their tie; ``None`` where there is none."""
    if len(data) > MOST_BYTES:
        return None
    try:
        head, steps, peers, groups, names, calls, nics = json.loads(data)
        version, rank, world_size, host, number, at, open_since, is_last, throttled = head
        if version != VERSION:
            return None
        rank, world_size, number, at = _whole((rank, world_size, number, at))
        return Digest(
            rank,
            world_size,
            bounded(str(host)),
            number,
            at,
            _maybe(open_since),
            bool(is_last),
            _maybe(throttled),
            tuple(_step(row) for row in steps[:MOST_STEPS] if is_new(row[1])),
            tuple(map(_peer, peers[:MOST_PEERS])),
            tuple(GroupHead(bounded(str(group)), *_whole(rest)) for group, *rest in groups[:MOST_GROUPS]),
            tuple(_call(row, names) for row in calls[:MOST_CALLS]),
            tuple(map(_nic, nics[:MOST_NICS])),
        )
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None


def _micros(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e6)


def _seconds(micros: Any) -> float | None:
    return None if micros is None else _int(micros) / 1e6


def _int(value: Any) -> int:
    if type(value) is not int or not -_LARGEST <= value < _LARGEST:
        raise ValueError(value)
    return value


def _maybe(value: Any) -> int | None:
    return None if value is None else _int(value)


def _whole(values: Iterable[Any]) -> list[int]:
    return [_int(value) for value in values]


def _step_row(step: DigestedStep) -> list[int | None]:
    each = step.sample
    durations = map(_micros, (*each[2:9], each.waited))
    return [step.number, step.tie, each.start, each.end - each.start, *durations, each.calls, each.size]


def _step(row: list[Any]) -> DigestedStep:
    if not {*map(type, row)} <= _WHOLE or max(row[:4]) >= _LARGEST:
        raise ValueError(row)
    number, tie, start, length, *durations, calls, size = row
    *known, waited = [None if each is None else each / 1e6 for each in durations]
    inside, data, gc, cpu, run_queue, issued, throttled = known
    sample = StepSample(
        *(start, start + length, inside, data, gc, cpu, run_queue, issued, throttled, calls, size, waited)
    )
    return DigestedStep(number, tie, sample)


def _peer_row(each: PeerTraffic) -> list[int | None]:
    times = map(_micros, (each.interval, each.rtt, each.min_rtt, each.shortest_rtt, each.busy_time))
    counts = each.bytes_sent, each.segments_sent, each.retransmits, each.backoff, each.unread
    return [each.peer, each.at, *counts, *times]


def _peer(row: list[Any]) -> PeerTraffic:
    peer, at, sent, segments, retransmits, backoff, unread, interval, rtt, min_rtt, shortest, busy = row
    peer, at, retransmits, backoff, unread, interval = _whole((peer, at, retransmits, backoff, unread, interval))
    return PeerTraffic(
        peer=peer,
        host=None,
        interval=interval / 1e6,
        connections=0,
        bytes_sent=_maybe(sent),
        bytes_received=None,
        segments_sent=_maybe(segments),
        retransmits=retransmits,
        rtt=_seconds(rtt),
        rtt_variation=None,
        min_rtt=_seconds(min_rtt),
        busy_time=_seconds(busy),
        rwnd_limited_time=None,
        sndbuf_limited_time=None,
        delivery_rate=None,
        backoff=backoff,
        unacked=0,
        unread=unread,
        shortest_rtt=_seconds(shortest),
        at=at,
    )


def _nic_row(each: HostTraffic) -> tuple[str | int | None, ...]:
    interface, interval, *moved = each[:6]
    return interface, _micros(interval), *moved, each.at


def _nic(row: list[Any]) -> HostTraffic:
    interface, *numbers = row
    interval, sent, received, job_sent, job_received, at = _whole(numbers)
    return HostTraffic(bounded(str(interface)), interval / 1e6, sent, received, job_sent, job_received, at=at)


def _call_row(each: DigestedCall, names: list[str]) -> list[Any]:
    call = each.call
    error = None if call.error is None else names.index(call.error)
    return [each.group, each.sequence, names.index(call.operation), call.size, call.start, call.end, error]


def _call(row: list[Any], names: list[Any]) -> DigestedCall:
    group, sequence, operation, size, start, end, error = row
    name, failed = bounded(str(names[operation])), None if error is None else bounded(str(names[error]))
    call = CallSeen(name, _maybe(size), _int(start), _maybe(end), failed)
    return DigestedCall(bounded(str(group)), _int(sequence), call)
