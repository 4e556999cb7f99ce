"""The NICs of this process's network namespace, by the addresses of its connections: their counters in one read.

Linux only.
"""

from __future__ import annotations

import array
import fcntl
import itertools
import socket
import struct
from collections.abc import Collection, Iterable
from typing import Final

from otel_netmon.monitors import files

_SIOCGIFCONF: Final = 0x8912
_IFCONF: Final = struct.Struct("iP")
_IFREQ: Final = 16 + (24 if struct.calcsize("P") == 8 else 16)
_MOST_ADDRESSES: Final = 1024
_MOST_UNKNOWN: Final = 1024

Moved = tuple[int, int]
"""Bytes: received and sent."""


class OwnNics:
    """Which NIC has an address, and what the NICs have moved. Used by one thread at a time.

    A look-up costs nothing where the address is known, and some 20 µs where it is new. ``read`` costs some 20 µs,
    and 1 µs more for each NIC there is.
    """

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._unknown: set[str] = set()
        """Addresses that no NIC had when it was asked."""

    def names(self, addresses: Collection[str]) -> dict[str, str]:
        """The NIC of each address that is one of this network namespace's; loopback is none. Raises OSError."""
        new = {*addresses}.difference(self._names, self._unknown)
        if new:
            self._names = {**_ipv4_names(), **parse_if_inet6(files.try_read("/proc/self/net/if_inet6") or b"")}
            if len(self._unknown) > _MOST_UNKNOWN:
                self._unknown.clear()
            self._unknown |= new.difference(self._names)
        return {one: self._names[one] for one in addresses if self._names.get(one, "lo") != "lo"}

    def read(self, names: Collection[str]) -> dict[str, Moved]:
        """What these NICs have moved since they came up. Raises OSError."""
        return parse_bytes(files.read("/proc/self/net/dev"), names) if names else {}


def parse_bytes(data: bytes, names: Collection[str]) -> dict[str, Moved]:
    """Of ``/proc/net/dev``, the bytes of the NICs called so."""
    wanted = {name.encode(): name for name in names}
    found: dict[str, Moved] = {}
    for line in data.splitlines():
        head, _, tail = line.partition(b":")
        name = wanted.get(head.strip())
        if name is not None:
            columns = tail.split()
            found[name] = int(columns[0]), int(columns[8])
    return found


def parse_if_inet6(data: bytes) -> dict[str, str]:
    """``/proc/net/if_inet6``: the NIC of each IPv6 address."""
    columns: Iterable[list[bytes]] = (line.split() for line in data.splitlines())
    return {
        socket.inet_ntop(socket.AF_INET6, bytes.fromhex(one[0].decode())): one[5].decode(errors="replace")
        for one in columns
        if len(one) > 5
    }


def parse_ifconf(data: bytes) -> dict[str, str]:
    """What SIOCGIFCONF fills in: the NIC of each IPv4 address, without the label of an alias."""
    found: dict[str, str] = {}
    for at in itertools.takewhile(lambda at: at + _IFREQ <= len(data), itertools.count(0, _IFREQ)):
        name = data[at : at + 16].partition(b"\0")[0].partition(b":")[0]
        found[socket.inet_ntop(socket.AF_INET, data[at + 20 : at + 24])] = name.decode(errors="replace")
    return found


def _ipv4_names() -> dict[str, str]:
    room = array.array("B", bytes(_MOST_ADDRESSES * _IFREQ))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:  # sends nothing: it only has the call
        said = fcntl.ioctl(asking, _SIOCGIFCONF, _IFCONF.pack(len(room), room.buffer_info()[0]))
    return parse_ifconf(room.tobytes()[: _IFCONF.unpack(said)[0]])
