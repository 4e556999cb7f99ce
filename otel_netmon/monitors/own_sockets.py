"""The TCP connections of this process, those of its C++ libraries too, and reading what the kernel knows of them.

A socket is looked at through its descriptor, which stays the library's: nothing is duplicated (a copy would keep a
connection open that its owner closed), none of its flags is touched. Linux only.

``getsockopt(TCP_INFO)`` gives the same fields as a look-up by NETLINK_SOCK_DIAG and costs no more, as
docs/monitors.md shows. It needs no kernel module and no netlink, which sandboxes refuse, sees sockets of every
network namespace, and cannot meet another socket of the same addresses.
"""

from __future__ import annotations

import ctypes
import os
import socket
import stat
import struct
import sys
from typing import Final, NamedTuple

from otel_netmon.job.peers import Connection, Endpoint
from otel_netmon.monitors.tcp_info import SocketReading, parse_tcp_info

_SO_PROTOCOL: Final = 38
_SIOCINQ, _SIOCOUTQ = 0x541B, 0x5411
_MOST_FDS: Final = 1 << 16
_ROOM: Final = 512  # bytes: tcp_info has 248, and grows by a few each year
_NAME: Final = struct.Struct(">2xH4s")  # sockaddr_in after its family
_NAME6: Final = struct.Struct(">2xH4x16s")
_MAPPED: Final = b"\0" * 10 + b"\xff\xff"


class Descriptor(NamedTuple):
    """A connected socket of ours: its number, and the inode, which the next one of that number will not have."""

    fd: int
    inode: int


class _Calls:
    """System calls on a descriptor that Python's own socket object cannot make without changing its flags.

    They neither raise nor wait, take about a microsecond, and keep the interpreter's lock: to get it back takes
    the switch interval, 5 ms, wherever another thread computes. Used by one thread at a time.
    """

    def __init__(self) -> None:
        libc = ctypes.PyDLL(None)
        self._getsockopt = libc.getsockopt
        self._getsockopt.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        self._ioctl = libc.ioctl
        self._ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)
        self._names = libc.getsockname, libc.getpeername
        for call in self._names:
            call.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        room = bytearray(_ROOM)
        self._view = memoryview(room)
        self._room = (ctypes.c_char * _ROOM).from_buffer(room)
        self._length, self._number = ctypes.c_uint32(), ctypes.c_int()
        self._length_at, self._number_at = ctypes.byref(self._length), ctypes.byref(self._number)

    def option(self, fd: int, level: int, name: int) -> memoryview | None:
        """A socket option's bytes, until the next call; ``None`` where there is none."""
        self._length.value = _ROOM
        failed = self._getsockopt(fd, level, name, self._room, self._length_at)
        return None if failed else self._view[: self._length.value]

    def queue(self, fd: int, command: int) -> int | None:
        """Bytes in one of a socket's queues."""
        return None if self._ioctl(fd, command, self._number_at) else self._number.value

    def connection(self, fd: int) -> Connection | None:
        """Both ends of a TCP connection; ``None`` for all that is none, or not connected."""
        ends: list[Endpoint] = []
        for call in self._names:
            self._length.value = _ROOM
            if call(fd, self._room, self._length_at):
                return None
            end = _endpoint(self._view[: self._length.value])
            if end is None:
                return None
            ends.append(end)
        return Connection(*ends) if self.is_tcp(fd) else None

    def is_tcp(self, fd: int) -> bool:
        """Whether the descriptor is a TCP socket, connected or not."""
        protocol = self.option(fd, socket.SOL_SOCKET, _SO_PROTOCOL)
        return protocol is not None and int.from_bytes(protocol, sys.byteorder) == socket.IPPROTO_TCP


class OwnSockets:
    """Finds and reads this process's TCP connections. Used by one thread at a time.

    A look costs some 2 µs per open socket, and 10 µs for each socket that was not there the time before; reading
    costs some 8 µs per connection.
    """

    def __init__(self) -> None:
        self._calls = _Calls()
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
                connection = self._calls.connection(one.fd)
                if connection is None:
                    if not self._calls.is_tcp(one.fd):
                        others.add(one)
                    continue
                if _inode(one.fd) != one.inode:  # closed meanwhile, and the number given to another
                    continue
            known[one] = connection
        self._known, self._others = known, others
        return {connection: one for one, connection in known.items()}

    def read(self, connections: dict[Connection, Descriptor]) -> dict[Connection, SocketReading]:
        """What there is of each; those that are gone are left out. Raises nothing."""
        found = {connection: self._read(one) for connection, one in connections.items()}
        return {connection: reading for connection, reading in found.items() if reading is not None}

    def _read(self, one: Descriptor) -> SocketReading | None:
        raw = self._calls.option(one.fd, socket.IPPROTO_TCP, socket.TCP_INFO)
        if raw is None:
            return None
        try:
            info = parse_tcp_info(raw)
        except ValueError:
            return None
        received = self._calls.queue(one.fd, _SIOCINQ)
        sent = 0 if info.unacked == info.notsent_bytes == 0 else self._calls.queue(one.fd, _SIOCOUTQ)
        if received is None or sent is None or _inode(one.fd) != one.inode:
            return None  # closed meanwhile, and its number perhaps given to another: so this is asked last
        return SocketReading(info, received, sent, one.inode)


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


def _endpoint(name: memoryview) -> Endpoint | None:
    """A socket's name; an IPv4 address mapped into IPv6 as the IPv4 one that it is."""
    family = int.from_bytes(name[:2], sys.byteorder)
    if family == socket.AF_INET and len(name) >= _NAME.size:
        port, address = _NAME.unpack_from(name)
    elif family == socket.AF_INET6 and len(name) >= _NAME6.size:
        port, address = _NAME6.unpack_from(name)
        if address.startswith(_MAPPED):
            family, address = socket.AF_INET, address[12:]
    else:
        return None
    return Endpoint(socket.inet_ntop(family, address), port)
