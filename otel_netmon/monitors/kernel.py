"""What the kernel's network stack counts: protocols, packet queues, and the faults of NICs."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, Final

from otel_netmon import config, semconv
from otel_netmon.monitors import files, procfs, protocols
from otel_netmon.monitors.base import Monitor
from otel_netmon.monitors.points import Point, Row, attributes, points_of
from otel_netmon.monitors.protocols import Softnet
from otel_netmon.monitors.sums import MemberTotals

_PROTOCOL_ROWS: Final[tuple[Row, ...]] = (
    (semconv.HOST_TCP_SEGMENTS, "Tcp.InSegs", "Tcp.OutSegs"),
    (semconv.HOST_TCP_RETRANSMITS, "Tcp.RetransSegs"),
    (semconv.HOST_TCP_TIMEOUTS, "TcpExt.TCPTimeouts"),
    (semconv.HOST_TCP_OUT_OF_ORDER, "TcpExt.TCPOFOQueue"),
    (semconv.HOST_TCP_ERRORS, "Tcp.InErrs"),
    (semconv.HOST_TCP_LISTEN_DROPS, "TcpExt.ListenDrops"),
    (semconv.HOST_IP_DISCARDS, "Ip.InDiscards", "Ip.OutDiscards"),
    (semconv.HOST_UDP_BUFFER_ERRORS, "Udp.RcvbufErrors", "Udp.SndbufErrors"),
)
_SOFTNET_ROWS: Final = (
    (semconv.SOFTNET_PROCESSED, "processed"),
    (semconv.SOFTNET_DROPPED, "dropped"),
    (semconv.SOFTNET_SQUEEZED, "squeezed"),
)
_MAX_NICS: Final = 256
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
    metrics: ClassVar[tuple[semconv.Metric, ...]] = (
        *(row[0] for row in (*_PROTOCOL_ROWS, *_SOFTNET_ROWS)),
        semconv.NIC_FAULTS,
        semconv.NIC_CARRIER_CHANGES,
    )

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
        self._cpu_totals = MemberTotals(wrap=_WRAP)
        self._nic_totals = MemberTotals(heirs=True)
        self._queue_totals = MemberTotals()

    def sample(self) -> Iterator[Point]:
        """One reading. What cannot be read is absent."""
        counts: dict[str, int] = {}
        for name in ("snmp", "netstat"):
            counts |= protocols.parse_snmp(files.try_read(f"{self._net}/{name}") or b"")
        yield from points_of(_PROTOCOL_ROWS, counts.get)
        rows = protocols.parse_softnet(files.try_read(f"{self._net}/softnet_stat") or b"")
        cpus = _identified(rows, protocols.parse_cpu_list(files.try_read(self._online) or b""))
        for metric, name in _SOFTNET_ROWS if cpus else ():
            count = {cpu: getattr(row, name) for cpu, row in cpus.items()}
            yield Point(metric, self._cpu_totals.add(name, count))
        names = files.entries(self._class)
        for name in [name for name in names if os.path.exists(f"{self._class}/{name}/device")][:_MAX_NICS]:
            yield from self._faults(name)
        self._nic_totals.trim()
        self._queue_totals.trim()

    def _faults(self, name: str) -> Iterator[Point]:
        """Of one NIC: totals, without a fall where it was reset or another took its name."""
        folder = f"{self._class}/{name}"
        about = (semconv.INTERFACE, name)
        index = _number(f"{folder}/ifindex")
        for fault in _FAULTS:
            if (count := _number(f"{folder}/statistics/{fault}")) is not None:
                total = self._nic_totals.add((name, fault), {index: count})
                yield Point(semconv.NIC_FAULTS, total, attributes(about, (semconv.ERROR_TYPE, fault)))
        queues = [entry for entry in files.entries(f"{folder}/queues") if entry.startswith("tx-")][:1024]
        counts = {(index, queue): _number(f"{folder}/queues/{queue}/{_TIMEOUTS}") for queue in queues}
        if known := {queue: count for queue, count in counts.items() if count is not None}:
            total = self._queue_totals.add(name, known)
            yield Point(semconv.NIC_FAULTS, total, attributes(about, (semconv.ERROR_TYPE, _TIMEOUTS)))
        if (changes := _number(f"{folder}/carrier_changes")) is not None:
            total = self._nic_totals.add((name, "carrier_changes"), {index: changes})
            yield Point(semconv.NIC_CARRIER_CHANGES, total, attributes(about))


def _number(path: str) -> int | None:
    return procfs.parse_int(files.try_read(path))


def _identified(rows: list[Softnet], online: list[int]) -> dict[object, Softnet]:
    """By CPU: as the line says, or as the list of those online has it, which the lines follow. Where neither is
    known, by position among as many lines: with another number of them it cannot be said whose each is."""
    numbered = online if len(online) == len(rows) else None
    return {
        row.cpu if row.cpu is not None else numbered[place] if numbered else (place, len(rows)): row
        for place, row in enumerate(rows)
    }
