"""What the kernel's network stack counts: protocols, packet queues, and the faults of NICs."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import ClassVar, Final

from opentelemetry.metrics import Observation

from otel_netmon import config, semconv
from otel_netmon.monitors import files, procfs, protocols
from otel_netmon.monitors.base import Monitor, Series
from otel_netmon.monitors.protocols import Softnet
from otel_netmon.monitors.sums import Sums
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
        root = config.current().sys_root if sys_root is None else sys_root
        self._class = str(root / "class" / "net")
        self._online = str(root / "devices" / "system" / "cpu" / "online")
        self._counts: dict[str, int] = {}
        self._softnet: dict[str, float] = {}
        self._nics: dict[str, dict[str, int]] = {}
        self._totals: dict[str, dict[str, float]] = {}
        """What ``_nics`` counts, without a fall where a NIC was reset or another took its name."""
        self._cpu_sums = Sums(wrap=_WRAP)
        self._nic_sums = Sums(heirs=True)
        self._queue_sums = Sums()

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
        cpus = _identified(rows, protocols.parse_cpu_list(files.try_read(self._online) or b""))
        nics = {name: self._read_nic(name) for name in self._physical()}
        with self._lock:
            self._counts = counts
            self._softnet = {
                name: self._cpu_sums.add(name, {cpu: getattr(row, name) for cpu, row in cpus.items()})
                for name in ("processed", "dropped", "squeezed")
                if cpus
            }
            self._nics = {name: counts for name, (_, counts, _) in nics.items()}
            self._totals = {name: self._add(name, *read) for name, read in nics.items()}
            self._nic_sums.trim()
            self._queue_sums.trim()

    def _add(
        self, nic: str, index: int | None, counts: dict[str, int], timeouts: dict[str, int]
    ) -> dict[str, float]:
        totals = {
            fault: self._nic_sums.add((nic, fault), {index: count})
            for fault, count in counts.items()
            if fault != _TIMEOUTS
        }
        if timeouts:
            queues = {(index, queue): count for queue, count in timeouts.items()}
            totals[_TIMEOUTS] = self._queue_sums.add(nic, queues)
        return totals

    def _physical(self) -> list[str]:
        try:
            names = sorted(filter(is_valid, os.listdir(self._class)))
        except OSError:
            return []
        return [name for name in names if os.path.exists(f"{self._class}/{name}/device")][:_MAX_NICS]

    def _read_nic(self, name: str) -> tuple[int | None, dict[str, int], dict[str, int]]:
        """Its index, which tells it from an earlier one of the same name; its faults; and those by queue."""
        folder = f"{self._class}/{name}"
        timeouts = self._timeouts(f"{folder}/queues")
        found = {fault: procfs.parse_int(files.try_read(f"{folder}/statistics/{fault}")) for fault in _FAULTS}
        found[_CARRIER] = procfs.parse_int(files.try_read(f"{folder}/{_CARRIER}"))
        found[_TIMEOUTS] = sum(timeouts.values()) if timeouts else None
        index = procfs.parse_int(files.try_read(f"{folder}/ifindex"))
        return index, {key: value for key, value in found.items() if value is not None}, timeouts

    def _timeouts(self, folder: str) -> dict[str, int]:
        try:
            queues = sorted(entry for entry in os.listdir(folder) if entry.startswith("tx-"))[:1024]
        except OSError:
            return {}
        counts = {queue: procfs.parse_int(files.try_read(f"{folder}/{queue}/tx_timeout")) for queue in queues}
        return {queue: count for queue, count in counts.items() if count is not None}

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
            (semconv.SOFTNET_PROCESSED, lambda: self._soft("processed")),
            (semconv.SOFTNET_DROPPED, lambda: self._soft("dropped")),
            (semconv.SOFTNET_SQUEEZED, lambda: self._soft("squeezed")),
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

    def _soft(self, name: str) -> Iterable[Observation]:
        return (Observation(self._softnet[name]),) if name in self._softnet else ()

    def _all_faults(self) -> Iterable[Observation]:
        for nic, counts in self._totals.items():
            for fault, count in counts.items():
                if fault != _CARRIER:
                    yield Observation(count, _fault(nic, fault))

    def _carrier_changes(self) -> Iterable[Observation]:
        for nic, counts in self._totals.items():
            if _CARRIER in counts:
                yield Observation(counts[_CARRIER], _nic(nic))


def _identified(rows: list[Softnet], online: list[int]) -> dict[object, Softnet]:
    """By CPU: as the line says, or as the list of those online has it, which the lines follow. Where neither is
    known, by position among as many lines: with another number of them it cannot be said whose each is."""
    numbered = online if len(online) == len(rows) else None
    return {
        row.cpu if row.cpu is not None else numbered[place] if numbered else (place, len(rows)): row
        for place, row in enumerate(rows)
    }


@functools.lru_cache(maxsize=4096)
def _fault(nic: str, fault: str) -> dict[str, str]:
    return {semconv.INTERFACE: nic, semconv.ERROR_TYPE: fault}


@functools.lru_cache(maxsize=256)
def _nic(nic: str) -> dict[str, str]:
    return {semconv.INTERFACE: nic}
