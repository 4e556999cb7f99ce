"""What the kernel knows of a TCP connection: ``struct tcp_info`` of Linux' ``include/uapi/linux/tcp.h``.

Bytes in and values out, no I/O. The structure grew over the years: a field that this kernel lacks is ``None``.
"""

from __future__ import annotations

import functools
import itertools
import struct
from typing import Final, NamedTuple


class TcpInfo(NamedTuple):
    """``struct tcp_info``, by the kernel's names. Times are in µs, but ``last_*`` in ms; ``*_rate`` in By/s.

    ``wscales`` holds two 4-bit fields and ``flags`` bit fields; the properties take them apart.
    """

    state: int
    ca_state: int
    retransmits: int
    probes: int
    backoff: int
    options: int
    wscales: int
    flags: int
    rto: int
    ato: int
    snd_mss: int
    rcv_mss: int
    unacked: int
    sacked: int
    lost: int
    retrans: int
    fackets: int
    last_data_sent: int
    last_ack_sent: int
    last_data_recv: int
    last_ack_recv: int
    pmtu: int
    rcv_ssthresh: int
    rtt: int
    rttvar: int
    snd_ssthresh: int
    snd_cwnd: int
    advmss: int
    reordering: int
    rcv_rtt: int
    rcv_space: int
    total_retrans: int
    pacing_rate: int | None = None
    max_pacing_rate: int | None = None
    bytes_acked: int | None = None
    bytes_received: int | None = None
    segs_out: int | None = None
    segs_in: int | None = None
    notsent_bytes: int | None = None
    min_rtt: int | None = None
    data_segs_in: int | None = None
    data_segs_out: int | None = None
    delivery_rate: int | None = None
    busy_time: int | None = None
    rwnd_limited: int | None = None
    sndbuf_limited: int | None = None
    delivered: int | None = None
    delivered_ce: int | None = None
    bytes_sent: int | None = None
    bytes_retrans: int | None = None
    dsack_dups: int | None = None
    reord_seen: int | None = None
    rcv_ooopack: int | None = None
    snd_wnd: int | None = None
    rcv_wnd: int | None = None
    rehash: int | None = None
    total_rto: int | None = None
    total_rto_recoveries: int | None = None
    total_rto_time: int | None = None

    @property
    def snd_wscale(self) -> int:
        """Window scale of the other side."""
        return self.wscales & 0xF if _LITTLE else self.wscales >> 4

    @property
    def rcv_wscale(self) -> int:
        """Our window scale."""
        return self.wscales >> 4 if _LITTLE else self.wscales & 0xF

    @property
    def app_limited(self) -> bool:
        """Whether ``delivery_rate`` was measured while the program sent less than the path could carry."""
        return bool(self.flags & (1 if _LITTLE else 0x80))


_LITTLE: Final = struct.pack("=H", 1)[0] == 1
_CODES: Final = 8 * "B" + 24 * "L" + 4 * "Q" + 6 * "L" + 4 * "Q" + 2 * "L" + 2 * "Q" + 6 * "L" + 2 * "H" + "L"
_SHORTEST: Final = 104
"""``tcp_info`` up to ``total_retrans``: what Linux had before 3.15, and every one since."""


@functools.lru_cache(maxsize=8)
def _layout(length: int) -> tuple[struct.Struct, tuple[None, ...]]:
    """What fits into ``length`` bytes, and a ``None`` for each field that it leaves out. There are no gaps."""
    sizes = itertools.accumulate(struct.calcsize("=" + code) for code in _CODES)
    fit = sum(1 for end in sizes if end <= length)
    return struct.Struct("=" + _CODES[:fit]), (None,) * (len(_CODES) - fit)


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
