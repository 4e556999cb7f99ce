"""The TCP connections of this process, those of its C++ libraries too, and reading what the kernel knows of them.

A socket is looked at through its descriptor, which stays the library's: nothing is duplicated (a copy would keep a
connection open that its owner closed), none of its flags is touched. Linux only.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import logging
import os
import socket
import stat
import struct
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from otel_netmon.job.peers import Connection, Endpoint
from otel_netmon.monitors import sock_diag
from otel_netmon.monitors.sock_diag import SockDiagError, Socket

_logger = logging.getLogger(__name__)

_BATCH: Final = 32  # requests to a datagram: their answers fit into the default receive buffer
_PATIENCE: Final = 1  # seconds; the kernel answers while it is asked
_ROOM: Final = 8192
_NETLINK_SOCK_DIAG: Final = 4
_SO_PROTOCOL: Final = 38
_SIOCINQ, _SIOCOUTQ = 0x541B, 0x5411
_MOST_FDS: Final = 1 << 16
_NAME: Final = struct.Struct(">2xH4s")  # sockaddr_in after its family
_NAME6: Final = struct.Struct(">2xH4x16s")
_FAMILY: Final = struct.Struct("=H")


class Descriptor(NamedTuple):
    """A connected socket of ours: its number, and the inode that tells it from the next one with that number."""

    fd: int
    inode: int


class OwnSockets:
    """Finds this process's TCP connections. Used by one thread at a time.

    A look costs some 2 µs per open socket, and 15 µs for each socket that was not there the time before.
    """

    def __init__(self) -> None:
        self._known: dict[Descriptor, Connection] = {}
        self._others: set[Descriptor] = set()
        """Sockets that are no TCP connections, and never will be."""

    def connections(self) -> dict[Connection, Descriptor]:
        """Those that are connected now. Raises OSError where /proc is not to be had."""
        known: dict[Descriptor, Connection] = {}
        others: set[Descriptor] = set()
        for one in _sockets():
            if one in self._others:
                others.add(one)
                continue
            connection = self._known.get(one)
            if connection is None:
                connection = _connection(one.fd)
                if connection is None:
                    if not _is_tcp(one.fd):
                        others.add(one)
                    continue
                if _inode(one.fd) != one.inode:  # closed meanwhile, and the number given to another
                    continue
            known[one] = connection
        self._known, self._others = known, others
        return {connection: one for one, connection in known.items()}


class TcpReader:
    """Reads what the kernel knows of connections: by NETLINK_SOCK_DIAG, one look-up per connection, so that other
    sockets of the host cost nothing, however many; where that is not allowed by ``getsockopt``. No root is needed.

    Used by one thread at a time. Costs some 10 µs per connection.
    """

    def __init__(self) -> None:
        self._refused = False

    def read(self, connections: dict[Connection, Descriptor]) -> dict[Connection, Socket]:
        """What there is of each; those that are gone are left out. Never raises OSError."""
        found: dict[Connection, Socket] = {}
        if not self._refused:
            try:
                found = self._ask(list(connections))
            except (OSError, SockDiagError) as error:
                self._refused = True
                _logger.warning(
                    "TCP: the kernel does not answer NETLINK_SOCK_DIAG (%s); reading by getsockopt instead", error
                )
        if len(found) == len(connections):
            return found
        for connection, one in connections.items():
            if connection not in found:
                read = _by_getsockopt(one)
                if read is not None:
                    found[connection] = read
        return found

    def _ask(self, connections: Sequence[Connection]) -> dict[Connection, Socket]:
        found: dict[Connection, Socket] = {}
        with socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG
        ) as netlink:
            netlink.setblocking(True)  # whatever socket.setdefaulttimeout says
            netlink.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", _PATIENCE, 0))
            for batch, part in sock_diag.in_batches(connections, _BATCH):
                netlink.send(batch)
                self._take(netlink, len(part), connections, found)
        return found

    def _take(
        self,
        netlink: socket.socket,
        waiting: int,
        connections: Sequence[Connection],
        found: dict[Connection, Socket],
    ) -> None:
        while waiting:
            for sequence, read, failure in sock_diag.parse_replies(netlink.recv(_ROOM)):
                if not 0 <= sequence < len(connections):
                    raise SockDiagError(f"an answer to a question that was not asked: {sequence}")
                waiting -= 1
                if read is not None and read.info is not None:
                    found[connections[sequence]] = read
                elif failure not in (0, errno.ENOENT):
                    raise OSError(failure, os.strerror(failure))


def _sockets() -> list[Descriptor]:
    found: list[Descriptor] = []
    for name in os.listdir("/proc/self/fd")[:_MOST_FDS]:
        inode = _inode(int(name))
        if inode is not None:
            found.append(Descriptor(int(name), inode))
    return found


def _inode(fd: int) -> int | None:
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_ino if stat.S_ISSOCK(status.st_mode) else None


@functools.cache
def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _is_tcp(fd: int) -> bool:
    return _option(fd, socket.SOL_SOCKET, _SO_PROTOCOL, 4) == struct.pack("=i", socket.IPPROTO_TCP)


def _option(fd: int, level: int, name: int, size: int) -> bytes | None:
    """A socket option's bytes. By ctypes: Python's own socket object would change the descriptor's flags."""
    room = ctypes.create_string_buffer(size)
    length = ctypes.c_uint32(size)
    if _libc().getsockopt(fd, level, name, room, ctypes.byref(length)) != 0:
        return None
    return room.raw[: length.value]


def _connection(fd: int) -> Connection | None:
    local, remote = _end(fd, "getsockname"), _end(fd, "getpeername")
    if local is None or remote is None or not _is_tcp(fd):
        return None
    return Connection(local, remote)


def _end(fd: int, which: str) -> Endpoint | None:
    room = ctypes.create_string_buffer(128)
    length = ctypes.c_uint32(128)
    if getattr(_libc(), which)(fd, room, ctypes.byref(length)) != 0:
        return None
    raw = room.raw[: length.value]
    family = _FAMILY.unpack_from(raw)[0] if len(raw) >= _FAMILY.size else 0
    if family == socket.AF_INET and len(raw) >= _NAME.size:
        port, address = _NAME.unpack_from(raw)
    elif family == socket.AF_INET6 and len(raw) >= _NAME6.size:
        port, address = _NAME6.unpack_from(raw)
    else:
        return None
    return Endpoint(sock_diag.address(address, family), port)


def _by_getsockopt(one: Descriptor) -> Socket | None:
    raw = _option(one.fd, socket.IPPROTO_TCP, socket.TCP_INFO, 512)
    if raw is None:
        return None
    queues = [0, 0]
    with contextlib.suppress(OSError):
        for place, command in enumerate((_SIOCINQ, _SIOCOUTQ)):
            queues[place] = struct.unpack("=i", fcntl.ioctl(one.fd, command, b"\0" * 4))[0]
    if _inode(one.fd) != one.inode:
        return None
    try:
        info = sock_diag.parse_tcp_info(raw)
    except SockDiagError:
        return None
    return Socket(info.state, queues[0], queues[1], inode=one.inode, cookie=one.inode, info=info)
