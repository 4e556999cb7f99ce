"""What the kernel knows of a TCP connection: requests and replies of NETLINK_SOCK_DIAG, and ``tcp_info``.

Pure functions, bytes in and values out, no I/O; laid out as Linux' ``include/uapi/linux/{netlink,sock_diag,
inet_diag,tcp}.h`` have it. ``tcp_info`` grew over the years: a field that the kernel at hand lacks is ``None``.
"""

from __future__ import annotations

import functools
import itertools
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from otel_netmon.job.peers import Connection

_HEADER: Final = struct.Struct("=LHHLL")  # nlmsghdr: length, type, flags, sequence, port
_REQUEST: Final = struct.Struct("=BBBBL")  # inet_diag_req_v2 before its id
_ID: Final = struct.Struct(">HH16s16s")  # inet_diag_sockid: ports and addresses, in network order
_ID_TAIL: Final = struct.Struct("=LLL")  # and interface and cookie, in ours
_MESSAGE: Final = struct.Struct("=BBBB40sQLLLLL")  # inet_diag_msg: state, addresses, cookie, queues, owner
_ATTRIBUTE: Final = struct.Struct("=HH")
_ERROR: Final = struct.Struct("=i")

SOCK_DIAG_BY_FAMILY: Final = 20
_NLMSG_NOOP, _NLMSG_ERROR, _NLMSG_DONE = 1, 2, 3
_NLM_F_REQUEST: Final = 1
_ANY: Final = 0xFFFFFFFF  # INET_DIAG_NOCOOKIE, and all states
_INET_DIAG_INFO: Final = 2
_EXTENSIONS: Final = 1 << (_INET_DIAG_INFO - 1)
_NLA_TYPE_MASK: Final = 0x3FFF

ESTABLISHED: Final = 1
REQUEST_SIZE: Final = _HEADER.size + _REQUEST.size + _ID.size + _ID_TAIL.size


class SockDiagError(ValueError):
    """Bytes that no kernel sends: a length beyond the data, a structure cut short."""


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
    """``struct tcp_info`` of any length from 104 bytes on; SockDiagError when it is shorter."""
    if len(data) < _SHORTEST:
        raise SockDiagError(f"tcp_info has {len(data)} bytes; the kernel gives at least {_SHORTEST}")
    layout, missing = _layout(min(len(data), 4096))
    return TcpInfo._make(layout.unpack_from(data) + missing)


class Socket(NamedTuple):
    """One TCP socket as the kernel answers for it.

    ``receive_queue`` (By): arrived and not read by the program. ``send_queue`` (By): written by the program and
    not acknowledged. ``cookie`` tells a socket from a later one with the same addresses.
    """

    state: int
    receive_queue: int
    send_queue: int
    uid: int = -1
    inode: int = 0
    cookie: int = 0
    info: TcpInfo | None = None


class Reply(NamedTuple):
    """The answer to request ``sequence``: a socket, or the errno that tells why there is none (0: no more)."""

    sequence: int
    socket: Socket | None
    error: int = 0


def request(connection: Connection, sequence: int) -> bytes:
    """Ask for the one socket that has these addresses. Raises OSError for an address that is none."""
    header = _HEADER.pack(REQUEST_SIZE, SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, sequence & _ANY, 0)
    return header + _question(connection)


@functools.lru_cache(maxsize=4096)
def _question(connection: Connection) -> bytes:
    family = socket.AF_INET6 if ":" in connection.local.address else socket.AF_INET
    local, remote = (
        socket.inet_pton(family, one.address).ljust(16, b"\0") for one in (connection.local, connection.remote)
    )
    return b"".join(
        (
            _REQUEST.pack(family, socket.IPPROTO_TCP, _EXTENSIONS, 0, _ANY),
            _ID.pack(connection.local.port, connection.remote.port, local, remote),
            _ID_TAIL.pack(0, _ANY, _ANY),
        )
    )


def parse_replies(data: bytes) -> list[Reply]:
    """Every answer in one datagram of the kernel. Raises SockDiagError when it makes no sense.

    Costs some 4 µs per socket.
    """
    found: list[Reply] = []
    at, size = 0, len(data)
    while size - at >= _HEADER.size:
        length, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
        if not _HEADER.size <= length <= size - at:
            raise SockDiagError(f"a message says it has {length} bytes; there are {size - at}")
        start, end = at + _HEADER.size, at + length
        if kind == SOCK_DIAG_BY_FAMILY:
            found.append(Reply(sequence, _socket(data, start, end)))
        elif kind == _NLMSG_DONE:
            found.append(Reply(sequence, None))
        elif kind == _NLMSG_ERROR:
            if end - start < _ERROR.size:
                raise SockDiagError("an error without its number")
            found.append(Reply(sequence, None, abs(_ERROR.unpack_from(data, start)[0])))
        elif kind != _NLMSG_NOOP:
            raise SockDiagError(f"a message of type {kind} was not asked for")
        at += (length + 3) & ~3
    if at < size:
        raise SockDiagError(f"{size - at} bytes are left over")
    return found


def _socket(data: bytes, start: int, end: int) -> Socket:
    if end - start < _MESSAGE.size:
        raise SockDiagError(f"a socket is described in {end - start} bytes; it takes {_MESSAGE.size}")
    _, state, _, _, _, cookie, _, receive_queue, send_queue, uid, inode = _MESSAGE.unpack_from(data, start)
    info: TcpInfo | None = None
    at = start + _MESSAGE.size
    while end - at >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if not _ATTRIBUTE.size <= length <= end - at:
            raise SockDiagError(f"an attribute says it has {length} bytes; there are {end - at}")
        if kind & _NLA_TYPE_MASK == _INET_DIAG_INFO and length - _ATTRIBUTE.size >= _SHORTEST:
            layout, missing = _layout(length - _ATTRIBUTE.size)
            info = TcpInfo._make(layout.unpack_from(data, at + _ATTRIBUTE.size) + missing)
            break  # nothing after it was asked for
        at += (length + 3) & ~3
    return Socket(state, receive_queue, send_queue, uid, inode, cookie, info)


def address(raw: bytes, family: int) -> str:
    """An address as text; an IPv4 one mapped into IPv6 as the IPv4 one that it is."""
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, raw[:4])
    if raw[:12] == _MAPPED:
        return socket.inet_ntop(socket.AF_INET, raw[12:16])
    return socket.inet_ntop(socket.AF_INET6, raw[:16])


_MAPPED: Final = b"\0" * 10 + b"\xff\xff"


def in_batches(connections: Sequence[Connection], size: int) -> Iterator[tuple[bytes, Sequence[Connection]]]:
    """Requests for all of them, ``size`` to a datagram; the sequence number is the place in ``connections``."""
    for start in range(0, len(connections), size):
        part = connections[start : start + size]
        yield b"".join(request(one, start + place) for place, one in enumerate(part)), part
