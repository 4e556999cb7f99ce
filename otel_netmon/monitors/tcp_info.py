"""What the kernel knows of a TCP connection: ``struct tcp_info`` of Linux' ``include/uapi/linux/tcp.h``.

Bytes in and values out, no I/O. The structure grew over the years: a field that this kernel lacks is ``None``.
"""

from __future__ import annotations

import functools
import itertools
import struct
from typing import Final, NamedTuple


class TcpInfo(NamedTuple):
    """What is used of ``struct tcp_info``, by the kernel's names. Times are in µs, ``delivery_rate`` in By/s."""

    backoff: int
    unacked: int
    rtt: int
    rttvar: int
    total_retrans: int
    bytes_acked: int | None = None
    bytes_received: int | None = None
    notsent_bytes: int | None = None
    min_rtt: int | None = None
    data_segs_in: int | None = None
    data_segs_out: int | None = None
    delivery_rate: int | None = None
    busy_time: int | None = None
    rwnd_limited: int | None = None
    sndbuf_limited: int | None = None


_FIELDS: Final = ("4xB", "19xL", "40xL", "L", "24xL", "16xQ", "Q", "8xL", "L", "L", "L", "Q", "Q", "Q", "Q")
"""The type of each, after as many bytes as are left out before it."""
_SHORTEST: Final = 104
"""``tcp_info`` up to ``total_retrans``: what Linux had before 3.15, and every one since."""


@functools.lru_cache(maxsize=8)
def _layout(length: int) -> tuple[struct.Struct, tuple[None, ...]]:
    """What fits into ``length`` bytes, and a ``None`` for each field that does not."""
    ends = itertools.accumulate(struct.calcsize("=" + field) for field in _FIELDS)
    fit = sum(1 for end in ends if end <= length)
    return struct.Struct("=" + "".join(_FIELDS[:fit])), (None,) * (len(_FIELDS) - fit)


def parse_tcp_info(data: bytes | memoryview) -> TcpInfo:
    """``struct tcp_info`` of any length from 104 bytes on; ValueError when it is shorter."""
    if len(data) < _SHORTEST:
        raise ValueError(f"tcp_info has {len(data)} bytes; the kernel gives at least {_SHORTEST}")
    layout, missing = _layout(min(len(data), 4096))
    return TcpInfo._make(layout.unpack_from(data) + missing)


class SocketReading(NamedTuple):
    """One TCP socket at one moment.

    ``receive_queue`` (By): arrived and not read by the program. ``send_queue`` (By): written by the program and
    not acknowledged. ``inode`` distinguishes the socket from a later one.
    """

    info: TcpInfo
    receive_queue: int
    send_queue: int
    inode: int
