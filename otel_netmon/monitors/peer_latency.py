"""Round-trip time to the job's other hosts, where the user asks for it."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar, Final

from opentelemetry.metrics import Observation

from otel_netmon import config, semconv
from otel_netmon.job import peers
from otel_netmon.job.peers import Directory, Host
from otel_netmon.monitors import icmp, tcp_connect
from otel_netmon.monitors.base import Monitor
from otel_netmon.monitors.points import Point, Row, attributes, points_of
from otel_netmon.monitors.tcp_connect import Attempts
from otel_netmon.monitors.values import LatencyStats

_logger = logging.getLogger(__name__)

_ROWS: Final[tuple[Row, ...]] = (
    (semconv.PEER_LATENCY_MEAN, "mean"),
    (semconv.PEER_LATENCY_LOSS, "loss"),
)
_About = tuple[tuple[str, str], ...]
"""The attributes of a series."""
_MOST_KEPT: Final = 1024
"""Hosts whose shortest time is kept until it is exported."""


class PeerLatencyMonitor(Monitor):
    """Measures the round-trip time to other hosts of the job: at most ``most`` of them per round, always those
    next to this one, the others in turn.

    ``directory`` gives the hosts: by default what the captured job's ranks told one another. By ICMP
    echo where this process may send it; otherwise by a TCP connect to the job's store, whose host is then the only
    one that is measured, said in one log line. Nothing else is contacted. Where traffic flows anyhow the TCP
    monitor knows the round-trip time without any probe.

    A round sends ``attempts`` echoes of 16 bytes to each host, all hosts at once, and takes ``attempts * timeout``
    seconds at most.
    """

    name: ClassVar[str] = "latency_peers"
    metrics: ClassVar[tuple[semconv.Metric, ...]] = (
        semconv.PEER_LATENCY,
        *(row[0] for row in _ROWS),
        semconv.PEER_LATENCY_MIN,
    )
    probes: ClassVar[bool] = True

    def __init__(
        self,
        *,
        directory: Directory | None = None,
        most: int | None = None,
        attempts: int | None = None,
        timeout: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(clock=clock)
        settings = config.current()
        self._directory = directory
        self._most = settings.latency_peers_max if most is None else most
        self._attempts = settings.latency_attempts if attempts is None else attempts
        self._timeout = settings.latency_timeout if timeout is None else timeout
        self._by = settings.peer_attribute
        self._warned = False
        self._begin()

    def _begin(self) -> None:
        self._shortest: dict[_About, float] = {}
        self._is_told = False

    def after_fork_in_child(self) -> None:
        super().after_fork_in_child()
        self._begin()

    def observations(self, metric: str) -> list[Observation]:
        """Where the shortest times are asked for, the next round begins them anew: whoever exports less often than
        is measured, or a host that takes its turn in between, would miss them otherwise."""
        with self._lock:
            self._is_told |= metric == semconv.PEER_LATENCY_MIN.name
        return super().observations(metric)

    def sample(self) -> tuple[Point, ...]:
        """One round. Raises what the job's store raises."""
        directory = self._directory or peers.directory
        if directory is None:
            return self.points()
        method, measure = ("icmp", self._by_icmp) if icmp.allowed() else ("tcp", self._by_tcp)
        return tuple(self._points_of(measure(directory), method))

    def _points_of(self, found: dict[Host, LatencyStats], method: str) -> Iterator[Point]:
        by = (semconv.LATENCY_METHOD, method)
        for stats in found.values():
            for seconds in stats.times:
                yield Point(semconv.PEER_LATENCY, seconds, attributes(by))
        shortest: dict[_About, float] = {}
        if self._by == "none":  # one series for all: the worst
            yield from points_of(_ROWS, functools.partial(_worst, found.values()), by)
            worst = _worst(found.values(), "min")
            shortest = {} if worst is None else {(by,): worst}
        else:
            for host, stats in found.items():
                peer = (semconv.PEER_ADDRESS, host.address)
                if self._by == "host":
                    peer = (semconv.PEER_HOST, host.name)
                yield from points_of(_ROWS, functools.partial(getattr, stats), peer, by)
                if stats.min is not None:
                    shortest[peer, by] = stats.min
        for about, seconds in self._since_told(shortest).items():
            yield Point(semconv.PEER_LATENCY_MIN, seconds, attributes(*about))

    def _since_told(self, now: dict[_About, float]) -> dict[_About, float]:
        """The shortest times of each series since they were last exported, with those of this round."""
        with self._lock:
            before, self._is_told = {} if self._is_told else self._shortest, False
        for about, seconds in before.items():
            if about in now or len(now) < _MOST_KEPT:
                now[about] = min(seconds, now.get(about, seconds))
        self._shortest = now
        return now

    def _by_icmp(self, directory: Directory) -> dict[Host, LatencyStats]:
        hosts = {host.address: host for host in directory.some_hosts(self._most)}
        return {
            hosts[one]: LatencyStats.of(hosts[one].name, one, None, times=found.times, errors=found.errors)
            for one, found in icmp.ping(hosts, self._attempts, self._timeout).items()
        }

    def _by_tcp(self, directory: Directory) -> dict[Host, LatencyStats]:
        if not self._warned:
            self._warned = True
            _logger.warning(
                "this process may not send ICMP echoes: of the job's hosts only that of its store is measured, by "
                "TCP connects. For all of them, put this process's group into the sysctl net.ipv4.ping_group_range"
            )
        endpoint = directory.store_endpoint()
        if endpoint is None:
            return {}
        found = Attempts()
        tcp_connect.attempt(*endpoint, self._attempts, self._timeout, found)
        host, port = endpoint
        return {Host(host, host): LatencyStats.of(host, host, port, times=found.times, errors=found.errors)}


def _worst(found: Iterable[LatencyStats], field: str) -> float | None:
    return max((value for stats in found if (value := getattr(stats, field)) is not None), default=None)
