"""Parsers of the kernel's own counts: protocols, packet queues, pressure, run queues and cgroups.

Pure functions, bytes in and values out, no I/O and no exception: what is not understood is left out.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from typing import NamedTuple

_MAX_LINES = 4096
_PRESSURE = re.compile(rb"^(some|full) .*total=(\d{1,20})\b", re.MULTILINE)
_RUN_QUEUE = re.compile(rb"^(cpu\d+)(?: \S+){7} (\d{1,20})\b", re.MULTILINE)
_CGROUP = re.compile(rb"^\d+:([^:\n]*):(/.*)$", re.MULTILINE)
_VALUE = re.compile(rb"^(\w+) (\d{1,20})$", re.MULTILINE)
_OCTAL = re.compile(rb"\\([0-7]{3})")


def parse_snmp(data: bytes) -> dict[str, int]:
    """``/proc/net/snmp`` and ``/proc/net/netstat``: values by ``Protocol.Name``, from pairs of lines."""
    found: dict[str, int] = {}
    names: tuple[bytes, list[bytes]] | None = None
    for line in data.splitlines()[:_MAX_LINES]:
        protocol, colon, rest = line.partition(b":")
        if not colon:
            names = None
        elif names is None or names[0] != protocol:
            names = (protocol, rest.split())
        else:
            for name, value in zip(names[1], rest.split(), strict=False):
                number = _whole(value)
                if number is not None:
                    found[f"{protocol.decode('ascii', 'replace')}.{name.decode('ascii', 'replace')}"] = number
            names = None
    return found


class Softnet(NamedTuple):
    """Packets of one CPU: taken from NICs' queues, dropped as the backlog was full; and how often it had to stop
    before its queue was empty (``squeezed``). Kernels before 5.10 do not say which CPU."""

    processed: int
    dropped: int
    squeezed: int
    cpu: int | None = None


def parse_softnet(data: bytes) -> list[Softnet]:
    """``/proc/net/softnet_stat``, a line for each CPU that is online. The counts are 32 bits wide and wrap."""
    found: list[Softnet] = []
    for line in data.splitlines()[:_MAX_LINES]:
        columns = line.split(None, 13)
        counts, cpu = _hexadecimal(columns[:3]), _hexadecimal(columns[12:13])
        if len(counts) == 3:
            found.append(Softnet(*counts, cpu=cpu[0] if cpu else None))
    return found


def parse_cpu_list(data: bytes) -> list[int]:
    """``/sys/devices/system/cpu/online``: the numbers of ``0-3,8``; empty where it is not understood."""
    found: list[int] = []
    for part in data.strip().split(b",")[:_MAX_LINES]:
        first, _, last = part.partition(b"-")
        low, high = _whole(first), _whole(last or first)
        if low is None or high is None or not 0 <= low <= high < _MAX_LINES:
            return []
        found += range(low, high + 1)
    return found[:_MAX_LINES]


def parse_pressure(data: bytes) -> dict[str, float]:
    """``/proc/pressure/*`` and ``*.pressure`` of a cgroup: seconds stalled, by ``some`` and ``full``."""
    return {kind.decode(): int(total) * 1e-6 for kind, total in _PRESSURE.findall(data)}


def parse_schedstat(data: bytes) -> dict[str, float]:
    """``/proc/schedstat``: seconds that tasks waited to run, by CPU that is online; where it says so."""
    return {cpu.decode(): int(waited) * 1e-9 for cpu, waited in _RUN_QUEUE.findall(data)}


def parse_task_schedstat(data: bytes) -> float | None:
    """``schedstat`` of a task: seconds that it waited to run."""
    columns = data.split()
    waited = _whole(columns[1]) if len(columns) >= 3 else None
    return None if waited is None else waited * 1e-9


def parse_cgroups(data: bytes) -> dict[str, str]:
    """``/proc/PID/cgroup``: path by controller; the one of version 2 is under the empty name."""
    found: dict[str, str] = {}
    for names, path in _CGROUP.findall(data):
        with contextlib.suppress(UnicodeError):
            found = {**dict.fromkeys(names.decode("ascii").split(","), path.decode()), **found}
    return found


def parse_cgroup_mounts(data: bytes) -> dict[str, str]:
    """``/proc/PID/mountinfo``: by the place where cgroups are mounted the cgroup that is at its top."""
    found: dict[str, str] = {}
    for line in data.splitlines():
        columns, separator, kind = line.partition(b" - cgroup")
        fields = columns.split(b" ", 5)
        if not separator or kind[:1] not in (b" ", b"2") or len(fields) < 6:
            continue
        root, place = (_OCTAL.sub(lambda code: bytes((int(code[1], 8) & 255,)), one) for one in fields[3:5])
        try:
            found[place.decode()] = root.decode()  # of several at one place the last is seen
        except UnicodeError:
            continue
    return found


class Throttling(NamedTuple):
    """A CPU quota: periods in which it was in force, those in which it ran out, seconds stopped for that."""

    periods: int
    throttled: int
    time: float


def parse_cpu_stat(data: bytes) -> Throttling | None:
    """``cpu.stat`` of a cgroup of either version; ``None`` where no quota was ever in force."""
    values = {name: int(value) for name, value in _VALUE.findall(data)}
    periods, throttled = values.get(b"nr_periods", 0), values.get(b"nr_throttled")
    if b"throttled_usec" in values:
        time = values[b"throttled_usec"] * 1e-6
    elif b"throttled_time" in values:  # version 1, in nanoseconds
        time = values[b"throttled_time"] * 1e-9
    else:
        return None
    return None if throttled is None or not periods else Throttling(periods, throttled, time)


def parse_cpu_max(data: bytes) -> float | None:
    """``cpu.max`` of version 2 in CPUs; ``None`` is no limit."""
    columns = data.split()
    if len(columns) != 2:
        return None
    return quota(_whole(columns[0]), _whole(columns[1]))


def quota(quota_: int | None, period: int | None) -> float | None:
    """CPUs of a quota and its period, in the same unit; ``None`` is no limit."""
    if quota_ is None or not period or quota_ <= 0 or period <= 0:
        return None
    return quota_ / period


def _whole(text: bytes) -> int | None:
    if not text or len(text) > 20 or not text.lstrip(b"-").isdigit():
        return None
    try:
        return int(text)
    except ValueError:
        return None


def _hexadecimal(columns: Iterable[bytes]) -> tuple[int, ...]:
    try:
        found = tuple(int(column, 16) for column in columns)
    except ValueError:
        return ()
    return found if min(found, default=0) >= 0 else ()
