"""Ports of RDMA devices: InfiniBand, RoCE, EFA."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Final, NamedTuple

from otel_netmon import config, semconv
from otel_netmon.monitors import files, infiniband
from otel_netmon.monitors.base import Monitor
from otel_netmon.monitors.infiniband import RdmaPortStats
from otel_netmon.monitors.interface import share
from otel_netmon.monitors.points import Point, Row, attributes, points_of
from otel_netmon.monitors.sums import MemberTotals

_logger = logging.getLogger(__name__)

_MAX_PORTS: Final = 256
_ROWS: Final[tuple[Row, ...]] = (
    (semconv.HW_IO, "bytes_received", "bytes_sent"),
    (semconv.HW_PACKETS, "packets_received", "packets_sent"),
    (semconv.NIC_UP, "up"),
    (semconv.NIC_LIMIT, "speed"),
    (semconv.NIC_UTILIZATION, "receive_utilization", "transmit_utilization"),
    (semconv.RDMA_RETRANSMITS, "retransmits"),
    (semconv.RDMA_OUT_OF_SEQUENCE, "out_of_sequence"),
    (semconv.RDMA_SEQUENCE_NAKS, "sequence_naks"),
    (semconv.RDMA_RNR_NAKS, "rnr_naks"),
    (semconv.RDMA_ACK_TIMEOUTS, "ack_timeouts"),
    (semconv.RDMA_CNP, "cnp_handled", "cnp_sent"),
    (semconv.RDMA_ECN_MARKED, "ecn_marked"),
    (semconv.RDMA_DISCARDS, "discards_received", "discards_sent"),
    (semconv.RDMA_RECEIVE_ERRORS, "receive_errors"),
    (semconv.RDMA_TRANSMIT_WAIT, "transmit_wait"),
    (semconv.RDMA_LINK_DOWNED, "link_downed"),
    (semconv.RDMA_LINK_RECOVERED, "link_recovered"),
    (semconv.RDMA_SYMBOL_ERRORS, "symbol_errors"),
    (semconv.RDMA_REMOTE_FAULTS, "remote_faults"),
)


class _Port(NamedTuple):
    """A reading. ``guid`` is the device, whatever it is called; ``parts``: see ``infiniband.parts``."""

    stats: RdmaPortStats
    guid: bytes | None
    parts: dict[str, dict[str, int]]


class RdmaMonitor(Monitor):
    """Watches every port under ``/sys/class/infiniband``; sends nothing, needs no root. No device, no series.

    A counter that a driver does not have, or that is full and stands still (32 bits, old hardware), is absent.
    Made from the kernel's documentation and the sources of its drivers; it has not been run on RDMA hardware. The
    root defaults to that of the configuration. A sample takes some 0.3 ms of CPU per port.
    """

    name: ClassVar[str] = "rdma"
    metrics: ClassVar[tuple[semconv.Metric, ...]] = (semconv.RDMA_PORT, *(row[0] for row in _ROWS))

    def __init__(self, *, sys_root: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock=clock)
        root = config.current().sys_root if sys_root is None else sys_root
        self._class = str(root / "class" / "infiniband")
        self._latest: dict[str, RdmaPortStats] = {}
        self._totals = MemberTotals()
        self._before: dict[str, _Port] = {}
        self._read_at: float | None = None
        self._full: set[tuple[str, str]] = set()

    @property
    def latest(self) -> dict[str, RdmaPortStats]:
        """The last sample, by ``device:port``; empty before the first, and without a device. No I/O."""
        with self._lock:
            return dict(self._latest)

    def sample(self) -> list[Point]:
        """One reading of every port."""
        at = self._clock()
        ports = {port.stats.id: port for port in self._ports_now()}
        window = None if self._read_at is None else at - self._read_at
        latest = {name: _rated(port, self._before.get(name), window) for name, port in ports.items()}
        self._before, self._read_at = ports, at
        with self._lock:
            self._latest = latest
        points = [point for name, port in ports.items() for point in self._points_of(latest[name], port)]
        self._totals.trim()
        full = {(name, counter) for name, port in ports.items() for counter in port.stats.saturated}
        for name, counter in sorted(full - self._full):
            _logger.warning(
                "RDMA port %s: the 32-bit counter %s is full and stands still; its metric is left out until the "
                "counter is reset (by perfquery -R, or by reloading the driver)",
                name,
                counter,
            )
        self._full = full
        return points

    def _points_of(self, stats: RdmaPortStats, port: _Port) -> Iterator[Point]:
        """With totals that do not fall where a driver was reset or other counters could be read."""
        about = (semconv.HW_ID, stats.id), (semconv.HW_NAME, stats.device)
        totals: dict[str, float] = {
            meaning: int(self._totals.add((stats.id, meaning), {(port.guid, one): n for one, n in read.items()}))
            for meaning, read in port.parts.items()
        }
        yield from points_of(_ROWS, lambda field: totals.get(field, getattr(stats, field, None)), *about)
        more = (
            (semconv.RDMA_LINK_LAYER, stats.link_layer),
            (semconv.INTERFACE, stats.interface),
            (semconv.RDMA_PCI_ADDRESS, stats.pci_address),
            (semconv.RDMA_NUMA_NODE, stats.numa_node),
        )
        known = ((name, value) for name, value in more if value is not None)
        yield Point(semconv.RDMA_PORT, 1, attributes(*about, *known))

    def _ports_now(self) -> list[_Port]:
        ports = [
            (device, int(number))
            for device in files.entries(self._class)
            for number in files.entries(f"{self._class}/{device}/ports")
            if number.isascii() and number.isdigit()
        ]
        return [self._port(device, number) for device, number in ports[:_MAX_PORTS]]

    def _port(self, device: str, number: int) -> _Port:
        top = f"{self._class}/{device}"
        port = f"{top}/ports/{number}"
        contents = {
            folder: {
                name: files.try_read(f"{port}/{folder}/{name}")
                for name in files.entries(f"{port}/{folder}")
                if name in infiniband.NAMES
            }
            for folder in infiniband.FOLDERS
        }
        parts, full = infiniband.parts(contents)
        layer = (files.try_read(f"{port}/link_layer") or b"").strip()[:32].decode("ascii", "replace")
        stats = RdmaPortStats(
            device=device,
            port=number,
            time=time.time(),
            state=infiniband.parse_state(files.try_read(f"{port}/state")),
            physical_state=infiniband.parse_state(files.try_read(f"{port}/phys_state")),
            link_layer=layer or None,
            speed=infiniband.parse_rate(files.try_read(f"{port}/rate")),
            interface=_interface(top, port),
            pci_address=infiniband.parse_pci_address(files.link_name(f"{top}/device")),
            numa_node=infiniband.parse_numa_node(files.try_read(f"{top}/device/numa_node")),
            saturated=full,
            counters={meaning: sum(read.values()) for meaning, read in parts.items()},
        )
        return _Port(stats, files.try_read(f"{top}/node_guid"), parts)


def _rated(port: _Port, before: _Port | None, window: float | None) -> RdmaPortStats:
    """With the rates since the sample before; none across a reset, or between counters that are not the same."""
    now = port.stats
    if before is None or not window or port.guid != before.guid:
        return now

    def rate(meaning: str) -> float | None:
        new, old = port.parts.get(meaning, {}), before.parts.get(meaning, {})
        if not new or new.keys() != old.keys() or any(new[one] < old[one] for one in new):
            return None
        return sum(new[one] - old[one] for one in new) / window

    sent, received = rate("bytes_sent"), rate("bytes_received")
    return replace(
        now,
        transmit_rate=sent,
        receive_rate=received,
        transmit_utilization=share(sent, now.speed),
        receive_utilization=share(received, now.speed),
    )


def _interface(device: str, port: str) -> str | None:
    """The NIC that a port belongs to: as its first GID names it, else the only one of the PCI device."""
    for index in files.entries(f"{port}/gid_attrs/ndevs")[:16]:
        name = (files.try_read(f"{port}/gid_attrs/ndevs/{index}") or b"").strip()[:64]
        if name:
            return name.decode("ascii", "replace")
    nics = files.entries(f"{device}/device/net")
    return nics[0] if len(nics) == 1 else None
