"""Which NICs are watched, and reading them: /proc and /sys on Linux, psutil elsewhere.

Counters come from one read of ``net/dev``, which has all NICs of a network namespace (see ``files.net_folder``).
"""

from __future__ import annotations

import fnmatch
import os
import re
import sys
from collections.abc import Iterable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from otel_netmon import config
from otel_netmon.monitors import files, procfs
from otel_netmon.monitors.procfs import NicCounters

_DEFAULT_PROC: Final = Path("/proc")
_DEFAULT_SYS: Final = Path("/sys")
# a switchdev representor shows a second time what the virtual function behind it counts
_REPRESENTOR: Final = re.compile(rb"(c\d+)?pf\d+(vf|sf)\d+")


@dataclass(frozen=True)
class NicReading:
    """One chosen NIC: why, and what is known of it. ``speed`` in By/s; see ``InterfaceStats``."""

    name: str
    reason: str
    physical: bool
    counters: NicCounters
    index: int | None = None
    speed: float | None = None
    mtu: int | None = None
    up: bool | None = None
    part_of: str | None = None


class NicSource(Protocol):
    """Where NICs are read from."""

    def read(self, patterns: tuple[str, ...] | None, keep: Set[str]) -> list[NicReading]:
        """The chosen NICs with their counters, in the order of the system; does I/O, may raise OSError.

        ``patterns``: names or globs; ``None`` is the default choice. ``keep``: NICs that stay chosen by default
        though they are down, because they were chosen before.
        """
        ...


def names_or_globs(given: str | Iterable[str] | None) -> tuple[str, ...] | None:
    """The user's selection as a tuple; a lone string is one name."""
    return (given,) if isinstance(given, str) else None if given is None else tuple(given)


def _selected(names: Iterable[str], patterns: tuple[str, ...]) -> dict[str, str]:
    """Those of ``names`` that are asked for, and why. What is the name of a NIC is that name, and no pattern:
    the kernel allows brackets in one."""
    names = list(names)
    exact = set(patterns).intersection(names)
    globs = [pattern for pattern in patterns if pattern not in exact]
    found: dict[str, str] = {}
    for name in names:
        if name in exact:
            found[name] = "named"
        elif match := next((pattern for pattern in globs if fnmatch.fnmatchcase(name, pattern)), None):
            found[name] = f"matches {match}"
    return found


class SysfsSource:
    """Linux, by reading files. A NIC costs some eight small reads; a veth that is not chosen two ``stat``."""

    def __init__(self, proc_root: Path, sys_root: Path) -> None:
        self._net = files.net_folder(proc_root)
        self._class = str(sys_root / "class" / "net")

    def read(self, patterns: tuple[str, ...] | None, keep: Set[str]) -> list[NicReading]:
        """See ``NicSource``."""
        return _SysfsReading(self._net, self._class).nics(patterns, keep)


class _SysfsReading:
    """One pass over the files; a file that is asked for twice is read once."""

    def __init__(self, net: str, folder: str) -> None:
        self._net = net
        self._class = folder
        self._files: dict[tuple[str, str], bytes | None] = {}

    def nics(self, patterns: tuple[str, ...] | None, keep: Set[str]) -> list[NicReading]:
        counters = procfs.parse_net_dev(files.read(f"{self._net}/dev"))
        chosen = self._default(list(counters), keep) if patterns is None else _selected(counters, patterns)
        covered = {name: part for name in chosen if (part := self._part_of(name, chosen))}
        if patterns is None:
            # by default a bond stands for its members; named ones are shown, but not added up
            chosen = {n: r for n, r in chosen.items() if not (n in covered and self._kind(n))}
        return [self._nic(name, reason, counters[name], covered.get(name)) for name, reason in chosen.items()]

    def _default(self, names: list[str], keep: Set[str]) -> dict[str, str]:
        found: dict[str, str] = {}
        for name in names:
            kind = self._kind(name)
            if kind is None:
                continue
            if self._up(name):
                found[name] = f"{kind} NIC, up"
            elif name in keep:
                found[name] = f"{kind} NIC, chosen when it was up"
        if found:
            return found
        # Where sysfs is that of another network namespace nothing is known of a NIC: it is not known to be down.
        running = [n for n in names if self._up(n) is not False and not self._loopback(n)]
        tables = [files.try_read(f"{self._net}/{name}") for name in ("route", "ipv6_route")]
        routes = procfs.parse_default_routes(*tables)
        if routed := [name for name in running if name in routes]:
            return dict.fromkeys(routed, "no physical or bonded NIC is up; this one has the default route")
        rest = "there is no physical or bonded NIC up, nor a default route"
        return {n: f"{'up' if self._up(n) else 'not in sysfs, perhaps up'}; {rest}" for n in running}

    def _kind(self, name: str) -> str | None:
        if os.path.exists(f"{self._class}/{name}/device"):
            label = self._file(name, "phys_port_name")
            return None if label and _REPRESENTOR.match(label) else "physical"
        return "bonded" if os.path.isdir(f"{self._class}/{name}/bonding") else None

    def _part_of(self, name: str, chosen: dict[str, str]) -> str | None:
        """The chosen NIC that counts the traffic of ``name`` too: its bond, or what a VLAN or bridge sits on."""
        master = files.link_name(f"{self._class}/{name}/master")
        if master in chosen and self._kind(master):
            return master
        if self._kind(name):
            return None
        seen = {name}
        todo = [name]
        while todo:
            for entry in files.entries(f"{self._class}/{todo.pop()}"):
                below = entry.removeprefix("lower_")
                if below == entry:
                    continue
                if below in chosen:
                    return below
                if below not in seen:
                    seen.add(below)
                    todo.append(below)
        return None

    def _nic(self, name: str, reason: str, counters: NicCounters, part_of: str | None) -> NicReading:
        return NicReading(
            name=name,
            reason=reason,
            physical=self._kind(name) == "physical",
            counters=counters,
            index=procfs.parse_int(self._file(name, "ifindex")),
            speed=procfs.parse_speed(self._file(name, "speed")),
            mtu=procfs.parse_int(self._file(name, "mtu")),
            up=self._up(name),
            part_of=part_of,
        )

    def _loopback(self, name: str) -> bool:
        flags = self._file(name, "flags")
        return procfs.is_loopback(flags) if flags is not None else name == "lo"

    def _up(self, name: str) -> bool | None:
        return procfs.parse_up(self._file(name, "flags"), self._file(name, "operstate"))

    def _file(self, name: str, entry: str) -> bytes | None:
        if (name, entry) not in self._files:
            self._files[name, entry] = files.try_read(f"{self._class}/{name}/{entry}")
        return self._files[name, entry]


class PsutilSource:
    """Other systems. They do not tell physical NICs from others, so there are no ``hw.`` series there."""

    def read(self, patterns: tuple[str, ...] | None, keep: Set[str]) -> list[NicReading]:
        """See ``NicSource``; takes about 0.1 ms, and 40 ms once for importing psutil."""
        import psutil

        links = psutil.net_if_stats()
        read = psutil.net_io_counters(pernic=True)
        if patterns is None:
            up = (name for name in read if (link := links.get(name)) and (link.isup or name in keep))
            why = "up; this system does not say which NICs are physical"
            chosen = {name: why for name in up if "loopback" not in links[name].flags}
        else:
            chosen = _selected(read, patterns)
        found: list[NicReading] = []
        for name, reason in chosen.items():
            io, link = read[name], links.get(name)
            counters = NicCounters(
                io.bytes_recv, io.packets_recv, io.errin, io.dropin,
                io.bytes_sent, io.packets_sent, io.errout, io.dropout,
            )  # fmt: skip
            speed = link.speed * 1e6 / 8 if link and link.speed else None
            found.append(
                NicReading(name, reason, False, counters, None, speed, link and link.mtu, link and link.isup)
            )
        return found


def nic_source(proc_root: Path | None = None, sys_root: Path | None = None) -> NicSource:
    """The source for this system; roots default to those of the configuration."""
    proc_root = config.current().proc_root if proc_root is None else proc_root
    sys_root = config.current().sys_root if sys_root is None else sys_root
    if sys.platform != "linux" and (proc_root, sys_root) == (_DEFAULT_PROC, _DEFAULT_SYS):
        return PsutilSource()
    return SysfsSource(proc_root, sys_root)


def choose_interfaces(
    interfaces: str | Iterable[str] | None = None,
    *,
    proc_root: Path | None = None,
    sys_root: Path | None = None,
) -> list[tuple[str, str]]:
    """The NICs a monitor would watch here and why, as ``(name, reason)``.

    ``interfaces``: names or globs; ``None`` is the choice the configuration makes, by default physical and
    bonded NICs that are up. The name of a NIC is never a glob. Raises OSError when the counters cannot be read.
    Costs some 0.2 ms.
    """
    patterns = config.current().interfaces if interfaces is None else names_or_globs(interfaces)
    return [(nic.name, nic.reason) for nic in nic_source(proc_root, sys_root).read(patterns, frozenset())]
