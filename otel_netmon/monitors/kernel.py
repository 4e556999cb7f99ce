"""What the kernel's network stack counts: protocols, packet queues, and the faults of NICs."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import astuple
from pathlib import Path
from typing import ClassVar, Final

from opentelemetry.metrics import Observation

from otel_netmon import config, semconv
from otel_netmon.monitors import files, procfs, protocols
from otel_netmon.monitors.base import Monitor, Series
from otel_netmon.monitors.protocols import Softnet
from otel_netmon.text import is_valid

_RX: Final = semconv.DIRECTION_RECEIVE
_TX: Final = semconv.DIRECTION_TRANSMIT
_MAX_NICS: Final = 256
_CARRIER: Final = "carrier_changes"
# in /sys/class/net/*/statistics beside the traffic; the sums of some are in system.network.errors and .dropped
_FAULTS: Final = (
    "rx_crc_errors",
    "rx_fifo_errors",
    "rx_frame_errors",
    "rx_length_errors",
    "rx_missed_errors",
    "rx_nohandler",
    "rx_over_errors",
    "tx_aborted_errors",
    "tx_carrier_errors",
    "tx_fifo_errors",
    "tx_heartbeat_errors",
    "tx_window_errors",
    "collisions",
)
_TIMEOUTS: Final = "tx_timeout"
_WRAP: Final = 1 << 32


class KernelNetworkMonitor(Monitor):
    """Watches ``/proc/net`` of this network namespace, and what physical NICs count as faults; sends nothing.

    With a ``proc_root`` of the user's, the host's in a container say, it is that of process 1 there. Roots default
    to those of the configuration. Linux only; elsewhere there is nothing. Counts that this kernel lacks are
    absent. A sample takes some 0.3 ms of CPU, and 0.1 ms more for each physical NIC.
    """

    name: ClassVar[str] = "kernel"

    def __init__(
        self,
        *,
        proc_root: Path | None = None,
        sys_root: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(clock=clock)
        self._net = files.net_folder(config.current().proc_root if proc_root is None else proc_root)
        self._class = str((config.current().sys_root if sys_root is None else sys_root) / "class" / "net")
        self._counts: dict[str, int] = {}
        self._softnet: Softnet | None = None
        self._rows: list[Softnet] = []
        self._nics: dict[str, dict[str, int]] = {}

    @property
    def counts(self) -> dict[str, int]:
        """The protocols' counts at the last sample, by ``Protocol.Name`` as the kernel has them. No I/O."""
        with self._lock:
            return dict(self._counts)

    @property
    def faults(self) -> dict[str, dict[str, int]]:
        """What each physical NIC counted as gone wrong, by the kernel's names. No I/O."""
        with self._lock:
            return {name: dict(counts) for name, counts in self._nics.items()}

    def sample(self) -> None:
        """One reading. What cannot be read is absent."""
        with self._turn() as mine:
            if mine:
                self._sample()

    def _sample(self) -> None:
        counts: dict[str, int] = {}
        for name in ("snmp", "netstat"):
            counts |= protocols.parse_snmp(files.try_read(f"{self._net}/{name}") or b"")
        rows = protocols.parse_softnet(files.try_read(f"{self._net}/softnet_stat") or b"")
        nics = {name: self._read_nic(name) for name in self._physical()}
        with self._lock:
            self._counts = counts
            self._softnet = _added(self._softnet, self._rows, rows)
            self._rows = rows
            self._nics = nics

    def _physical(self) -> list[str]:
        try:
            names = sorted(filter(is_valid, os.listdir(self._class)))
        except OSError:
            return []
        return [name for name in names if os.path.exists(f"{self._class}/{name}/device")][:_MAX_NICS]

    def _read_nic(self, name: str) -> dict[str, int]:
        folder = f"{self._class}/{name}"
        found = {fault: procfs.parse_int(files.try_read(f"{folder}/statistics/{fault}")) for fault in _FAULTS}
        found[_CARRIER] = procfs.parse_int(files.try_read(f"{folder}/{_CARRIER}"))
        found[_TIMEOUTS] = self._timeouts(f"{folder}/queues")
        return {key: value for key, value in found.items() if value is not None}

    def _timeouts(self, folder: str) -> int | None:
        try:
            queues = [entry for entry in os.listdir(folder) if entry.startswith("tx-")]
        except OSError:
            return None
        counts = [procfs.parse_int(files.try_read(f"{folder}/{queue}/tx_timeout")) for queue in queues[:1024]]
        known = [count for count in counts if count is not None]
        return sum(known) if known else None

    def series(self) -> tuple[Series, ...]:
        """``otel_netmon.host.*`` of the network stack, ``otel_netmon.nic.*`` per physical NIC."""
        one, two = self._one, self._two
        return (
            (semconv.HOST_TCP_SEGMENTS, two("Tcp.InSegs", "Tcp.OutSegs")),
            (semconv.HOST_TCP_RETRANSMITS, one("Tcp.RetransSegs")),
            (semconv.HOST_TCP_TIMEOUTS, one("TcpExt.TCPTimeouts")),
            (semconv.HOST_TCP_OUT_OF_ORDER, one("TcpExt.TCPOFOQueue")),
            (semconv.HOST_TCP_ERRORS, one("Tcp.InErrs")),
            (semconv.HOST_TCP_LISTEN_DROPS, one("TcpExt.ListenDrops")),
            (semconv.HOST_IP_DISCARDS, two("Ip.InDiscards", "Ip.OutDiscards")),
            (semconv.HOST_UDP_BUFFER_ERRORS, two("Udp.RcvbufErrors", "Udp.SndbufErrors")),
            (semconv.SOFTNET_PROCESSED, lambda: self._soft(lambda s: s.processed)),
            (semconv.SOFTNET_DROPPED, lambda: self._soft(lambda s: s.dropped)),
            (semconv.SOFTNET_SQUEEZED, lambda: self._soft(lambda s: s.squeezed)),
            (semconv.NIC_FAULTS, self._all_faults),
            (semconv.NIC_CARRIER_CHANGES, self._carrier_changes),
        )

    def _one(self, name: str) -> Callable[[], Iterable[Observation]]:
        return lambda: (Observation(self._counts[name]),) if name in self._counts else ()

    def _two(self, received: str, sent: str) -> Callable[[], Iterable[Observation]]:
        return lambda: [
            Observation(self._counts[name], {semconv.DIRECTION: direction})
            for name, direction in ((received, _RX), (sent, _TX))
            if name in self._counts
        ]

    def _soft(self, read: Callable[[Softnet], int]) -> Iterable[Observation]:
        return () if self._softnet is None else (Observation(read(self._softnet)),)

    def _all_faults(self) -> Iterable[Observation]:
        for nic, counts in self._nics.items():
            for fault, count in counts.items():
                if fault != _CARRIER:
                    yield Observation(count, _fault(nic, fault))

    def _carrier_changes(self) -> Iterable[Observation]:
        for nic, counts in self._nics.items():
            if _CARRIER in counts:
                yield Observation(counts[_CARRIER], _nic(nic))


def _added(total: Softnet | None, before: list[Softnet], now: list[Softnet]) -> Softnet | None:
    """The sums over all CPUs. A CPU's counts are 32 bits wide: those that wrapped count on."""
    if not now:
        return None
    if total is None or len(before) != len(now):  # the first time, or a CPU came or went
        return Softnet(*map(sum, zip(*map(astuple, now), strict=True)))
    sums = list(astuple(total))
    for new, old in zip(now, before, strict=True):
        for place, (value, was) in enumerate(zip(astuple(new), astuple(old), strict=True)):
            sums[place] += (value - was) % _WRAP
    return Softnet(*sums)


@functools.lru_cache(maxsize=4096)
def _fault(nic: str, fault: str) -> dict[str, str]:
    return {semconv.INTERFACE: nic, semconv.ERROR_TYPE: fault}


@functools.lru_cache(maxsize=256)
def _nic(nic: str) -> dict[str, str]:
    return {semconv.INTERFACE: nic}
