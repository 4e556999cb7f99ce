"""What the monitors measure: frozen values, with units, ready for ``json.dumps`` through ``to_dict()``.

``time`` is always in seconds since the epoch. ``None`` means "not measured", never 0.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any


def _plain(value: Any) -> Any:
    if isinstance(value, _Value):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


class _Value:
    """Base of the values: conversion to plain dicts, lists, strings and numbers."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """All fields by name; those that were not measured are left out."""
        items = ((f.name, getattr(self, f.name)) for f in fields(self))  # type: ignore[arg-type]  # subclasses are dataclasses
        return {name: _plain(value) for name, value in items if value is not None}


@dataclass(frozen=True)
class InterfaceStats(_Value):
    """One NIC at one moment.

    ``bytes_*`` (By), ``packets_*``, ``errors_*`` and ``dropped_*`` are totals since the NIC came up, as the
    kernel counts them. Rates (By/s, packets/s) are means over ``window`` seconds. ``speed`` is the link speed in
    By/s. Utilisations are rate over speed, 0 to 1, per direction. ``reason`` says why the NIC was chosen;
    ``part_of`` names another chosen NIC that counts the same traffic already.
    """

    name: str
    time: float
    reason: str
    bytes_received: int
    bytes_sent: int
    packets_received: int
    packets_sent: int
    errors_received: int
    errors_sent: int
    dropped_received: int
    dropped_sent: int
    receive_rate: float | None = None
    transmit_rate: float | None = None
    receive_packet_rate: float | None = None
    transmit_packet_rate: float | None = None
    window: float | None = None
    receive_utilization: float | None = None
    transmit_utilization: float | None = None
    speed: float | None = None
    mtu: int | None = None
    up: bool | None = None
    physical: bool = False
    part_of: str | None = None


@dataclass(frozen=True)
class LatencyStats(_Value):
    """One round of TCP connects to one target; or of ICMP echoes, which have no port.

    ``times`` holds the seconds of each successful connect, in order; ``min``, ``mean``, ``max`` (s) and
    ``jitter`` (s, mean absolute difference of successive times; needs two) are made of them. ``loss`` is the
    share, 0 to 1, of ``attempts`` that got no connection, and ``errors`` says why, one word for each:
    ``name_not_resolved``, ``refused``, ``timeout`` (of the connect, or of a resolver that did not answer),
    ``unreachable``, another errno's name, or ``not_measured`` when no attempt could be made.
    """

    target: str
    host: str
    port: int | None
    time: float
    attempts: int
    times: tuple[float, ...] = ()
    errors: tuple[str, ...] = ()
    min: float | None = None
    mean: float | None = None
    max: float | None = None
    jitter: float | None = None
    loss: float | None = None

    @classmethod
    def of(
        cls, target: str, host: str, port: int | None, *, times: Iterable[float], errors: Iterable[str]
    ) -> LatencyStats:
        """The statistics of the times (s) and errors of the attempts that were made, as of now."""
        times, errors = tuple(times), tuple(errors)
        attempts = len(times) + len(errors)
        steps = [abs(b - a) for a, b in itertools.pairwise(times)]
        return cls(
            target=target,
            host=host,
            port=port,
            time=time.time(),
            attempts=attempts,
            times=times,
            errors=errors,
            min=min(times) if times else None,
            mean=sum(times) / len(times) if times else None,
            max=max(times) if times else None,
            jitter=sum(steps) / len(steps) if steps else None,
            loss=len(errors) / attempts if attempts else None,
        )


@dataclass(frozen=True)
class BandwidthStats(_Value):
    """Throughput of ``interfaces`` together, from their counters.

    Rates and peaks in By/s per direction, means over ``window`` seconds; peaks are the highest since the monitor
    was made. ``capacity`` (By/s, one direction) is the summed link speed of those of them that are up, ``None``
    when one is unknown; utilisations are rate over capacity, 0 to 1.
    """

    time: float
    interfaces: tuple[str, ...] = ()
    receive_rate: float | None = None
    transmit_rate: float | None = None
    peak_receive_rate: float | None = None
    peak_transmit_rate: float | None = None
    window: float | None = None
    capacity: float | None = None
    receive_utilization: float | None = None
    transmit_utilization: float | None = None


@dataclass(frozen=True)
class CollectiveStats(_Value):
    """Collectives that completed within the window; ``None`` for name, backend and group means all of them.

    ``bytes`` is the sum of this rank's buffers; durations in seconds as the host saw them; ``algbw`` and
    ``busbw`` in By/s, bytes over time spent, busbw with nccl-tests' factor and without the operations that
    have none.
    """

    name: str | None
    backend: str | None
    group: str | None
    count: int
    bytes: int
    duration_p50: float
    duration_p99: float
    algbw: float | None = None
    busbw: float | None = None


@dataclass(frozen=True)
class SweepPoint(_Value):
    """One size of the timed sweep: ``size`` in bytes, median ``duration`` in seconds on this rank of
    ``repetitions`` all_reduces; ``algbw`` and ``busbw`` in By/s, ``busbw`` absent in a group of one."""

    size: int
    repetitions: int
    duration: float
    algbw: float | None = None
    busbw: float | None = None


@dataclass(frozen=True)
class DistributedMetrics(_Value):
    """What this rank knows of its collectives.

    ``window`` is the length in seconds of the window that ``overall`` and ``collectives`` cover; ``sweep`` is
    filled only by a measurement of our own. ``reason`` says why something is missing.
    """

    window: float
    overall: CollectiveStats | None = None
    collectives: tuple[CollectiveStats, ...] = ()
    sweep: tuple[SweepPoint, ...] = ()
    backend: str | None = None
    world_size: int | None = None
    reason: str | None = None


@dataclass(frozen=True)
class NetworkMetrics(_Value):
    """Everything measured together; a part that was not measured is ``None``.

    ``interfaces`` is keyed by NIC, ``latency`` by the target as the user wrote it.
    """

    time: float
    interfaces: Mapping[str, InterfaceStats] | None = None
    bandwidth: BandwidthStats | None = None
    latency: Mapping[str, LatencyStats] | None = None
    distributed: DistributedMetrics | None = None
