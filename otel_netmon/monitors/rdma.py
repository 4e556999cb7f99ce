"""Ports of RDMA devices: InfiniBand, RoCE, EFA."""

from __future__ import annotations

import functools
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple

from opentelemetry.metrics import Observation

from otel_netmon import config, semconv
from otel_netmon.monitors import files, infiniband
from otel_netmon.monitors.base import Monitor, Series
from otel_netmon.monitors.infiniband import RdmaPortStats
from otel_netmon.monitors.interface import share
from otel_netmon.monitors.sums import Sums
from otel_netmon.text import is_valid

_logger = logging.getLogger(__name__)

_RX: Final = semconv.DIRECTION_RECEIVE
_TX: Final = semconv.DIRECTION_TRANSMIT
_MAX_PORTS: Final = 256


class _Port(NamedTuple):
    """A reading. ``guid`` tells a device from another of the same name; ``parts``: see ``infiniband.parts``."""

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

    def __init__(self, *, sys_root: Path | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(clock=clock)
        root = config.current().sys_root if sys_root is None else sys_root
        self._class = str(root / "class" / "infiniband")
        self._latest: dict[str, RdmaPortStats] = {}
        self._counted: dict[str, RdmaPortStats] = {}
        """The same, with totals that do not fall where a driver was reset or other counters could be read."""
        self._sums = Sums()
        self._read: dict[str, _Port] = {}
        self._sampled: float | None = None
        self._full: set[tuple[str, str]] = set()

    @property
    def latest(self) -> dict[str, RdmaPortStats]:
        """The last sample, by ``device:port``; empty before the first, and without a device. No I/O."""
        with self._lock:
            return dict(self._latest)

    def sample(self) -> None:
        """One reading of every port."""
        with self._turn() as mine:
            if mine:
                self._sample()

    def _sample(self) -> None:
        at = self._clock()
        found = {port.stats.id: port for port in self._ports_now()}
        full = {(name, one) for name, port in found.items() for one in port.stats.saturated}
        with self._lock:
            window = None if self._sampled is None else at - self._sampled
            before, self._read, self._sampled = self._read, found, at
            self._latest = {name: _rated(port, before.get(name), window) for name, port in found.items()}
            self._counted = {name: replace(one, **self._add(found[name])) for name, one in self._latest.items()}
            self._sums.trim()
            fresh, self._full = full - self._full, full
        for name, counter in sorted(fresh):
            _logger.warning(
                "RDMA port %s: the 32-bit counter %s is full and stands still; it is left out until it is reset",
                name,
                counter,
            )

    def _add(self, port: _Port) -> dict[str, Any]:
        name, guid = port.stats.id, port.guid
        return {
            meaning: int(self._sums.add((name, meaning), {(guid, one): count for one, count in read.items()}))
            for meaning, read in port.parts.items()
        }

    def _ports_now(self) -> Iterable[_Port]:
        ports = [
            (device, int(number))
            for device in _entries(self._class)
            for number in _entries(f"{self._class}/{device}/ports")
            if number.isascii() and number.isdigit()
        ]
        return [self._port(device, number) for device, number in ports[:_MAX_PORTS]]

    def _port(self, device: str, number: int) -> _Port:
        top = f"{self._class}/{device}"
        port = f"{top}/ports/{number}"
        read = {
            folder: {
                name: files.try_read(f"{port}/{folder}/{name}")
                for name in _entries(f"{port}/{folder}")
                if name in infiniband.NAMES
            }
            for folder in infiniband.FOLDERS
        }
        parts, full = infiniband.parts(read)
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
            pci_address=infiniband.parse_pci_address(_link(f"{top}/device")),
            numa_node=infiniband.parse_numa_node(files.try_read(f"{top}/device/numa_node")),
            saturated=full,
            **infiniband.added(parts),
        )
        return _Port(stats, files.try_read(f"{top}/node_guid"), parts)

    def series(self) -> tuple[Series, ...]:
        """``hw.network.*`` and ``otel_netmon.rdma.*`` per port."""
        one, two = self._one, self._two
        return (
            (semconv.HW_IO, two(lambda s: (s.bytes_received, s.bytes_sent))),
            (semconv.HW_PACKETS, two(lambda s: (s.packets_received, s.packets_sent))),
            (semconv.NIC_UP, one(lambda s: None if s.up is None else int(s.up))),
            (semconv.NIC_LIMIT, one(lambda s: s.speed)),
            (semconv.NIC_UTILIZATION, two(lambda s: (s.receive_utilization, s.transmit_utilization))),
            (semconv.RDMA_PORT, self._ports),
            (semconv.RDMA_RETRANSMITS, one(lambda s: s.retransmits)),
            (semconv.RDMA_OUT_OF_SEQUENCE, one(lambda s: s.out_of_sequence)),
            (semconv.RDMA_SEQUENCE_NAKS, one(lambda s: s.sequence_naks)),
            (semconv.RDMA_RNR_NAKS, one(lambda s: s.rnr_naks)),
            (semconv.RDMA_ACK_TIMEOUTS, one(lambda s: s.ack_timeouts)),
            (semconv.RDMA_CNP, two(lambda s: (s.cnp_handled, s.cnp_sent))),
            (semconv.RDMA_ECN_MARKED, one(lambda s: s.ecn_marked)),
            (semconv.RDMA_DISCARDS, two(lambda s: (s.discards_received, s.discards_sent))),
            (semconv.RDMA_RECEIVE_ERRORS, one(lambda s: s.receive_errors)),
            (semconv.RDMA_TRANSMIT_WAIT, one(lambda s: s.transmit_wait)),
            (semconv.RDMA_LINK_DOWNED, one(lambda s: s.link_downed)),
            (semconv.RDMA_LINK_RECOVERED, one(lambda s: s.link_recovered)),
            (semconv.RDMA_SYMBOL_ERRORS, one(lambda s: s.symbol_errors)),
            (semconv.RDMA_REMOTE_FAULTS, one(lambda s: s.remote_faults)),
        )

    def _one(self, read: Callable[[RdmaPortStats], float | None]) -> Callable[[], Iterable[Observation]]:
        def observe() -> Iterable[Observation]:
            for stats in self._counted.values():
                value = read(stats)
                if value is not None:
                    yield Observation(value, _attributes(stats.id, stats.device))

        return observe

    def _two(
        self, read: Callable[[RdmaPortStats], tuple[float | None, float | None]]
    ) -> Callable[[], Iterable[Observation]]:
        def observe() -> Iterable[Observation]:
            for stats in self._counted.values():
                for value, direction in zip(read(stats), (_RX, _TX), strict=True):
                    if value is not None:
                        yield Observation(value, _attributes(stats.id, stats.device, direction))

        return observe

    def _ports(self) -> Iterable[Observation]:
        for stats in self._latest.values():
            about = {
                semconv.RDMA_LINK_LAYER: stats.link_layer,
                semconv.INTERFACE: stats.interface,
                semconv.RDMA_PCI_ADDRESS: stats.pci_address,
                semconv.RDMA_NUMA_NODE: stats.numa_node,
            }
            known = {name: value for name, value in about.items() if value is not None}
            yield Observation(1, {**_attributes(stats.id, stats.device), **known})


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
    for index in _entries(f"{port}/gid_attrs/ndevs")[:16]:
        name = (files.try_read(f"{port}/gid_attrs/ndevs/{index}") or b"").strip()[:64]
        if name:
            return name.decode("ascii", "replace")
    nics = _entries(f"{device}/device/net")
    return nics[0] if len(nics) == 1 else None


def _entries(folder: str) -> list[str]:
    try:
        return sorted(filter(is_valid, os.listdir(folder)))
    except OSError:
        return []


def _link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


@functools.lru_cache(maxsize=1024)
def _attributes(port: str, device: str, direction: str | None = None) -> dict[str, str]:
    attributes = {semconv.HW_ID: port, semconv.HW_NAME: device}
    return attributes if direction is None else {**attributes, semconv.DIRECTION: direction}
