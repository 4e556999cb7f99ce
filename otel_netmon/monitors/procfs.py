"""Parsers of what Linux says about NICs: bytes in, plain values out, no I/O and no exception."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

IFF_UP: Final = 0x1
IFF_LOOPBACK: Final = 0x8
_RTF_UP: Final = 0x1
_RTF_REJECT: Final = 0x200
_UNKNOWN_SPEED: Final = 0xFFFFFFFF  # some drivers give SPEED_UNKNOWN (-1) as an unsigned number


@dataclass(frozen=True)
class NicCounters:
    """Totals of one NIC. ``dropped_received`` includes packets missed for want of buffers, as /proc has it."""

    bytes_received: int
    packets_received: int
    errors_received: int
    dropped_received: int
    bytes_sent: int
    packets_sent: int
    errors_sent: int
    dropped_sent: int

    def behind(self, other: NicCounters) -> bool:
        """True when one of the totals is below that of ``other``: the NIC was reset in between."""
        return (
            self.bytes_received < other.bytes_received
            or self.bytes_sent < other.bytes_sent
            or self.packets_received < other.packets_received
            or self.packets_sent < other.packets_sent
        )


def parse_net_dev(data: bytes) -> dict[str, NicCounters]:
    """``/proc/net/dev``: totals by NIC, in the kernel's order. Lines that are not understood are left out."""
    found: dict[str, NicCounters] = {}
    for line in data.splitlines():
        head, colon, tail = line.partition(b":")
        columns = tail.split()
        if not colon or len(columns) < 16:
            continue
        try:
            # a name may be any bytes; one that is not UTF-8 could not be exported as an attribute
            name = head.strip().decode()
            values = [int(column) for column in columns[:16]]
        except ValueError:
            continue
        if name and min(values) >= 0:
            found[name] = NicCounters(*values[0:4], *values[8:12])
    return found


def parse_int(data: bytes | None) -> int | None:
    """One number of a sysfs file, decimal or ``0x…``; ``None`` when it is not one."""
    try:
        return int(data.strip(), 0) if data is not None else None
    except ValueError:
        return None


def parse_speed(data: bytes | None) -> float | None:
    """``/sys/class/net/*/speed`` (Mbit/s) in By/s; ``None`` when the kernel does not know it."""
    megabits = parse_int(data)
    if megabits is None or not 0 < megabits < _UNKNOWN_SPEED:
        return None
    return megabits * 1e6 / 8


def parse_up(flags: bytes | None, operstate: bytes | None) -> bool | None:
    """Whether a NIC is up, from its ``flags`` and ``operstate``; ``None`` when neither can be read."""
    bits = parse_int(flags)
    if bits is None or operstate is None:
        return None
    # tunnels and some drivers never leave "unknown": then the administrator's flag is all there is
    return bool(bits & IFF_UP) and operstate.strip() in (b"up", b"unknown")


def is_loopback(flags: bytes | None) -> bool:
    """Whether the ``flags`` are those of a loopback."""
    return bool((parse_int(flags) or 0) & IFF_LOOPBACK)


def parse_default_routes(ipv4: bytes | None, ipv6: bytes | None) -> frozenset[str]:
    """NICs with a default route, from ``/proc/net/route`` and ``/proc/net/ipv6_route``."""
    found: set[str] = set()
    for line in (ipv4 or b"").splitlines()[1:]:
        columns = line.split()
        if len(columns) >= 8 and columns[1] == columns[7] == b"00000000":
            _add_route(found, columns[0], columns[3])
    for line in (ipv6 or b"").splitlines():
        columns = line.split()
        if len(columns) >= 10 and columns[0] == b"0" * 32 and columns[1] == b"00":
            _add_route(found, columns[9], columns[8])
    return frozenset(found)


def _add_route(found: set[str], name: bytes, flags: bytes) -> None:
    try:
        bits = int(flags, 16)
        if bits & _RTF_UP and not bits & _RTF_REJECT:  # "unreachable default" is a route too
            found.add(name.decode())
    except ValueError:
        pass
