"""What is where in the file: 16 kB, little-endian, so that the bytes of a dead process say all.

A header with the process and its step; the names of operations and of groups by number; and the calls, as
``capture/native/record.h`` has them. Those that Python records and those that C++ does have a ring each.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from otel_netmon.endings import LastCall, LastCalls

SIZE: Final = 16384
HEADER: Final = struct.Struct("<8sIIqqqqqqq64s")
"""Magic, whether it was closed, pid; rank, local rank, world size (-1: not known); what makes a monotonic time one
of the epoch; last sign of life; number of the open step (-1: none), its start; run id. Monotonic nanoseconds."""
MAGIC: Final = b"otelnm1\0"
CLOSED_AT: Final = 8

OPERATION: Final = struct.Struct("<40s")
OPERATIONS_AT: Final = 512
MOST_OPERATIONS: Final = 64
GROUP: Final = struct.Struct("<I60s")
"""Its number, from 1, and its name."""
GROUPS_AT: Final = 4096
MOST_GROUPS: Final = 64

CALL: Final = struct.Struct("<QqqqqQIBbbBII")
"""Ticket, start (0: there is none), end (0: none is known), sequence (0: it has none), boundary, bytes, group,
operation, element type, device type, flags, error (0: none), flags of the end."""
CALLS_AT: Final = 8192
NATIVE_CALLS_AT: Final = 12288
CALLS: Final = 64

_MOST_NAME: Final = 255


class Head(NamedTuple):
    """The header."""

    magic: bytes
    closed: int
    pid: int
    rank: int
    local_rank: int
    world_size: int
    epoch: int
    written: int
    step: int
    step_start: int
    run_id: bytes


def text(raw: bytes) -> str:
    """A name as it was written: cut at a length, filled up with zeros."""
    return raw.rstrip(b"\0").decode("utf-8", "replace")[:_MOST_NAME]


def number(value: int) -> int | None:
    """What -1 stands for is not known."""
    return None if value < 0 else value


def read(data: bytes) -> LastCalls | None:
    """What ``data`` says; ``None`` where it is none of these files, or was closed: then all was exported."""
    if len(data) != SIZE:
        return None
    head = Head._make(HEADER.unpack_from(data))
    if head.magic != MAGIC or head.closed:
        return None
    named = groups(data)
    calls = sorted(_calls(data, named), key=lambda call: call[1])
    last = max([head.written, *(max(call[1], call[2]) for call in calls)])
    return LastCalls(
        head.pid,
        text(head.run_id) or None,
        number(head.rank),
        number(head.local_rank),
        number(head.world_size),
        number(head.step),
        (last - head.step_start) / 1e9 if head.step >= 0 else None,
        tuple(_call(data, call, named, last) for call in calls),
        last + head.epoch,
    )


def groups(data: bytes) -> dict[int, str]:
    """Names of groups by their numbers."""
    entries = (GROUP.unpack_from(data, GROUPS_AT + at * GROUP.size) for at in range(MOST_GROUPS))
    return {number: text(name) for number, name in entries if number}


def _calls(data: bytes, named: dict[int, str]) -> Iterator[tuple[Any, ...]]:
    for first in (CALLS_AT, NATIVE_CALLS_AT):
        for call in CALL.iter_unpack(data[first : first + CALLS * CALL.size]):
            if call[1] > 0 and call[6] in named and call[7] < MOST_OPERATIONS:
                yield call


def _call(data: bytes, call: tuple[Any, ...], named: dict[int, str], last: int) -> LastCall:
    _, start, end, sequence, _, size, group, operation, _, _, _, error, _ = call
    (name,) = OPERATION.unpack_from(data, OPERATIONS_AT + operation * OPERATION.size)
    duration = (end - start) // 1000 if end >= start else None
    failed = "_OTHER" if error and duration is not None else None
    return LastCall(text(name), named[group], sequence or None, size, (last - start) // 1000, duration, failed)
