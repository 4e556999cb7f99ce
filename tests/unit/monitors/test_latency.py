from __future__ import annotations

import contextlib
import errno
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_netmon.monitors import LatencyStats, NetworkLatencyMonitor, latency, tcp_connect

ADDRESS: tcp_connect.Address = (socket.AF_INET, ("127.0.0.1", 1))


@contextlib.contextmanager
def listening(family: socket.AddressFamily = socket.AF_INET) -> Iterator[int]:
    with socket.socket(family, socket.SOCK_STREAM) as server:
        server.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        server.listen(64)
        yield int(server.getsockname()[1])


def refusing() -> int:
    with listening() as port:
        return port


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_connect, "resolve", lambda host, port: [ADDRESS])
    monkeypatch.setattr(tcp_connect, "connect", lambda addresses, timeout: 0.001)


def test_connects_to_a_listener_over_ipv4_ipv6_and_by_name() -> None:
    with listening() as port, listening(socket.AF_INET6) as port6:
        targets = [f"127.0.0.1:{port}", f"[::1]:{port6}", f"localhost:{port}"]
        results = NetworkLatencyMonitor(targets, attempts=4).measure_latency()
    assert list(results) == targets
    for stats in results.values():
        assert (stats.attempts, len(stats.times), stats.loss, stats.errors) == (4, 4, 0, ())
        assert stats.min is not None and stats.mean is not None and stats.max is not None
        assert 0 < stats.min <= stats.mean <= stats.max < 1
    assert (results[targets[1]].host, results[targets[1]].port) == ("::1", port6)


def test_refusal_and_unknown_names_are_results(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, port: int) -> list[tcp_connect.Address]:
        if host == "unknown.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, (host, port))]

    monkeypatch.setattr(tcp_connect, "resolve", resolve)
    refused = f"127.0.0.1:{refusing()}"
    results = NetworkLatencyMonitor([refused, "unknown.invalid:80"], attempts=2).measure_latency()
    assert results[refused].errors == ("refused", "refused")
    assert results["unknown.invalid:80"].errors == ("name_not_resolved",)
    for stats in results.values():
        assert (stats.loss, stats.mean, stats.jitter) == (1.0, None, None)
        assert "mean" not in stats.to_dict()


def test_statistics_of_a_round() -> None:
    stats = LatencyStats.of("h:1", "h", 1, times=(0.010, 0.030, 0.020), errors=("timeout",))
    assert (stats.min, stats.max, stats.attempts, stats.loss) == (0.010, 0.030, 4, 0.25)
    assert stats.mean == pytest.approx(0.020)
    assert stats.jitter == pytest.approx((0.020 + 0.010) / 2)
    assert LatencyStats.of("h:1", "h", 1, times=(), errors=()).loss is None


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (TimeoutError(), "timeout"),
        (OSError(errno.ETIMEDOUT, ""), "timeout"),
        (OSError(errno.ENETUNREACH, ""), "unreachable"),
        (OSError(errno.ECONNRESET, ""), "ECONNRESET"),
        (socket.gaierror(), "name_not_resolved"),
        (RuntimeError(), "RuntimeError"),
    ],
)
def test_error_words(error: Exception, word: str) -> None:
    assert tcp_connect.error_word(error) == word


def test_a_dead_address_of_a_name_does_not_cost_every_attempt() -> None:
    """The address that answered comes first the next time; the time is its own, without the dead one's."""
    with listening() as port:
        addresses: list[tcp_connect.Address] = [
            (socket.AF_INET, ("127.0.0.1", refusing())),
            (socket.AF_INET, ("127.0.0.1", port)),
        ]
        tcp_connect.connect(addresses, 5)
        assert addresses[0] == (socket.AF_INET, ("127.0.0.1", port))
        assert len(addresses) == 2


def test_nothing_is_probed_unless_named() -> None:
    assert NetworkLatencyMonitor(()).measure_latency() == {}
    assert NetworkLatencyMonitor().measure_latency() == {}
    for bad in ("host", "::1:80", "host:0"):
        with pytest.raises(ValueError, match=r"host|brackets"):
            NetworkLatencyMonitor(bad)
    with pytest.raises(ValueError, match="attempts"):
        NetworkLatencyMonitor(attempts=0)


@pytest.mark.usefixtures("no_network")
def test_history_is_bounded_and_a_copy() -> None:
    monitor = NetworkLatencyMonitor("h:1", attempts=1)
    for _ in range(105):
        monitor.measure_latency()
    history = monitor.latency_history["h:1"]
    assert (len(history), history.maxlen) == (100, 100)
    history.clear()
    assert len(monitor.latency_history["h:1"]) == 100


def test_a_resolver_that_never_answers_is_a_timeout_and_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The result comes at the deadline; calling again neither waits again nor adds a thread."""
    release = threading.Event()
    threads: list[threading.Thread] = []

    def resolve(host: str, port: int) -> list[tcp_connect.Address]:
        if host == "stuck":
            threads.append(threading.current_thread())
            release.wait(60)
        return [ADDRESS]

    monkeypatch.setattr(tcp_connect, "resolve", resolve)
    monkeypatch.setattr(tcp_connect, "connect", lambda addresses, timeout: 0.001)
    monkeypatch.setattr(latency, "RESOLVE_ALLOWANCE", 1.0)
    monitor = NetworkLatencyMonitor(["stuck:1", "fine:1"], attempts=1, timeout=0.05)
    for _ in range(5):
        results = monitor.measure_latency()
        assert (results["stuck:1"].errors, results["stuck:1"].loss) == (("timeout",), 1.0)
        assert results["fine:1"].loss == 0
    assert len(threads) == 1
    assert threads[0].daemon
    release.set()
    threads[0].join(10)
    assert monitor.measure_latency()["stuck:1"].loss == 0
    assert [stats.loss for stats in monitor.latency_history["stuck:1"]] == [1.0] * 5 + [0.0]


def test_targets_beyond_the_threads_wait_their_turn_or_say_that_they_had_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = threading.Event()
    monkeypatch.setattr(latency, "MAX_THREADS", 2)
    monkeypatch.setattr(latency, "RESOLVE_ALLOWANCE", 1.0)
    monkeypatch.setattr(tcp_connect, "connect", lambda addresses, timeout: 0.001)
    monkeypatch.setattr(tcp_connect, "resolve", lambda host, port: [ADDRESS])
    targets = [f"h{number}:1" for number in range(7)]
    assert all(stats.loss == 0 for stats in NetworkLatencyMonitor(targets, attempts=1).measure_latency().values())

    monkeypatch.setattr(tcp_connect, "resolve", lambda host, port: release.wait(60) and [ADDRESS])
    monitor = NetworkLatencyMonitor(targets, attempts=1, timeout=0.02)
    results = list(monitor.measure_latency().values())
    assert [stats.errors for stats in results] == [("timeout",)] * 2 + [("not_measured",)] * 5
    assert [stats.loss for stats in results] == [1.0] * 2 + [None] * 5  # no attempt: nothing was lost
    release.set()


def test_a_stuck_resolver_does_not_hold_up_the_end_of_the_process() -> None:
    program = (
        "import threading\n"
        "from otel_netmon.monitors import NetworkLatencyMonitor, latency, tcp_connect\n"
        "latency.RESOLVE_ALLOWANCE = 1.0\n"
        "tcp_connect.resolve = lambda host, port: threading.Event().wait()\n"
        "print(NetworkLatencyMonitor('h:1', attempts=1, timeout=0.05).measure_latency()['h:1'].loss)\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "1.0\n"
