"""Round-trip time to the job's other hosts, where the user asks for it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import ClassVar, Final

from opentelemetry.metrics import Observation

from otel_netmon import config, semconv
from otel_netmon.job import peers
from otel_netmon.job.peers import Directory, Host
from otel_netmon.monitors import icmp, tcp_connect
from otel_netmon.monitors.base import ProbingMonitor, Series
from otel_netmon.monitors.values import LatencyStats

_logger = logging.getLogger(__name__)

ICMP: Final = "icmp"
TCP: Final = "tcp"


class PeerLatencyMonitor(ProbingMonitor):
    """Measures the round-trip time to other hosts of the job: at most ``most`` of them per round, in turn.

    Which hosts there are, ``directory`` says: by default what the captured job's ranks told one another. By ICMP
    echo where this process may send it; otherwise by a TCP connect to the job's store, whose host is then the only
    one that is measured, said in one log line. Nothing else is contacted. Where traffic flows anyhow the TCP
    monitor knows the round-trip time without any probe.

    A round sends ``attempts`` echoes of 16 bytes to each host, all hosts at once, and takes ``attempts * timeout``
    seconds at most.
    """

    name: ClassVar[str] = "latency_peers"
    recorded: ClassVar[semconv.Metric] = semconv.PEER_LATENCY

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
        self._said = False
        self._method = ICMP
        self._latest: dict[Host, LatencyStats] = {}

    @property
    def latest(self) -> dict[str, LatencyStats]:
        """The last round, by the host's address; empty before the first. No I/O."""
        with self._lock:
            return {host.address: stats for host, stats in self._latest.items()}

    def sample(self) -> None:
        """One round. Raises what the job's store raises."""
        directory = self._directory or peers.directory
        if directory is None:
            return
        method = ICMP if icmp.allowed() else TCP
        found = self._by_icmp(directory) if method == ICMP else self._by_tcp(directory)
        with self._lock:
            self._latest, self._method = found, method
            histogram = self._histogram
        if histogram is not None:
            for stats in found.values():
                for seconds in stats.times:
                    histogram.record(seconds, {semconv.LATENCY_METHOD: method})

    def _by_icmp(self, directory: Directory) -> dict[Host, LatencyStats]:
        hosts = {host.address: host for host in directory.some_hosts(self._most)}
        echoes = icmp.ping(hosts, self._attempts, self._timeout)
        return {
            hosts[address]: LatencyStats.of(
                hosts[address].name, address, None, times=tuple(one.times), errors=tuple(one.errors)
            )
            for address, one in echoes.items()
        }

    def _by_tcp(self, directory: Directory) -> dict[Host, LatencyStats]:
        if not self._said:
            self._said = True
            _logger.warning(
                "round-trip times to the job's hosts: this process may not send ICMP echoes "
                "(net.ipv4.ping_group_range); only the host of the job's store is measured, by TCP connect"
            )
        endpoint = directory.store_endpoint()
        if endpoint is None:
            return {}
        times: list[float] = []
        errors: list[str] = []
        tcp_connect.attempt(*endpoint, self._attempts, self._timeout, on_time=times.append, on_error=errors.append)
        host, port = endpoint
        stats = LatencyStats.of(host, host, port, times=tuple(times), errors=tuple(errors))
        return {Host(host, host): stats}

    def series(self) -> tuple[Series, ...]:
        """The hosts of the last round."""
        return (
            (semconv.PEER_LATENCY_MEAN, lambda: self._each(lambda s: s.mean)),
            (semconv.PEER_LATENCY_MIN, lambda: self._each(lambda s: s.min)),
            (semconv.PEER_LATENCY_LOSS, lambda: self._each(lambda s: s.loss)),
        )

    def _each(self, read: Callable[[LatencyStats], float | None]) -> Iterable[Observation]:
        if self._by == "none":  # one series for all: the worst
            values = [value for stats in self._latest.values() if (value := read(stats)) is not None]
            if values:
                yield Observation(max(values), {semconv.LATENCY_METHOD: self._method})
            return
        for host, stats in self._latest.items():
            value = read(stats)
            if value is not None:
                peer = (
                    {semconv.PEER_ADDRESS: host.address}
                    if self._by == "address"
                    else {str(semconv.PEER_HOST): host.name}
                )
                yield Observation(value, {**peer, semconv.LATENCY_METHOD: self._method})
