from __future__ import annotations

import json

import pytest

from otel_netmon.job.collective_window import CollectiveWindow, SeriesKey
from otel_netmon.monitors import DistributedNetworkMonitor, RealNetworkMonitor, sweep

from .helpers import Clock


class Window(CollectiveWindow):
    def complete(
        self, end: float, *durations: float, name: str = "all_reduce", group: str = "0", factor: float | None = 1.5
    ) -> None:
        for duration in durations:
            self.add(SeriesKey(name, "gloo", group), end, 1000, duration, factor)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def window(clock: Clock) -> Window:
    return Window(60, clock=clock)


def test_an_empty_window_says_so(window: Window) -> None:
    metrics = DistributedNetworkMonitor(window=window).measure_distributed_metrics().distributed
    assert metrics is not None
    assert (metrics.overall, metrics.collectives, metrics.sweep) == (None, (), ())
    assert metrics.reason == "no collective completed in the last 60 s"


def test_the_window_by_operation_and_group_and_over_all(window: Window, clock: Clock) -> None:
    window.complete(clock.now, *(number / 1000 for number in range(1, 201)))
    window.complete(clock.now, 0.5, name="send", factor=None)
    window.complete(clock.now, 1.0, group="1")
    metrics = DistributedNetworkMonitor(window=window).measure_distributed_metrics().distributed
    assert metrics is not None and metrics.overall is not None and metrics.reason is None
    assert [(s.name, s.group, s.count) for s in metrics.collectives] == [
        ("all_reduce", "0", 200),
        ("all_reduce", "1", 1),
        ("send", "0", 1),
    ]
    first = metrics.collectives[0]
    assert (first.bytes, first.duration_p50, first.duration_p99) == (200_000, 0.100, 0.198)
    spent = sum(range(1, 201)) / 1000
    assert first.algbw == pytest.approx(200_000 / spent)
    assert first.busbw == pytest.approx(1.5 * 200_000 / spent)
    assert metrics.collectives[2].busbw is None  # no factor, no bus bandwidth
    assert (metrics.overall.count, metrics.overall.name) == (202, None)
    assert metrics.overall.busbw == pytest.approx(1.5 * 201_000 / (spent + 1.0))
    assert json.loads(json.dumps(metrics.to_dict()))["collectives"][0]["name"] == "all_reduce"


def test_each_all_reduce_is_counted_once_though_windows_overlap(window: Window, clock: Clock) -> None:
    monitor = DistributedNetworkMonitor(window=window)
    window.complete(clock.now, 0.1, 0.1)
    window.complete(clock.now, 9.0, name="send")
    monitor.sample()
    monitor.measure_distributed_metrics()
    assert list(monitor.allreduce_times) == [0.1, 0.1]  # two alike are two
    clock.now += 30
    window.complete(clock.now - 40, 0.2)  # they need not come in order
    window.complete(clock.now, 0.3)
    monitor.sample()
    clock.now += 45
    monitor.sample()
    assert list(monitor.allreduce_times) == [0.1, 0.1, 0.2, 0.3]
    assert monitor.allreduce_times.maxlen == 100


def test_performance_history_is_bounded(window: Window) -> None:
    monitor = DistributedNetworkMonitor(window=window)
    for _ in range(1005):
        last = monitor.measure_distributed_metrics()
    assert (len(monitor.performance_history), monitor.performance_history.maxlen) == (1000, 1000)
    assert monitor.performance_history[-1] is last


def test_without_a_process_group_the_result_says_so_and_keeps_the_window(window: Window, clock: Clock) -> None:
    window.complete(clock.now, 0.1)
    metrics = DistributedNetworkMonitor(True, window=window).measure_distributed_metrics().distributed
    assert metrics is not None and metrics.overall is not None
    assert metrics.reason == "no process group is initialised in this process"
    assert metrics.sweep == ()


@pytest.mark.parametrize(
    "wrong", [{"sweep_sizes": ()}, {"sweep_sizes": (3,)}, {"sweep_repetitions": 0}, {"sweep_timeout": 0}]
)
def test_a_sweep_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="sweep"):
        DistributedNetworkMonitor(True, **wrong)  # type: ignore[arg-type]  # the point of the test


def test_a_scheduled_sample_and_the_composed_result_are_never_collective_calls(
    window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = DistributedNetworkMonitor(True, window=window)
    calls: list[None] = []
    monkeypatch.setattr(sweep.Sweep, "run", lambda _: calls.append(None))
    assert monitor.run_once()
    RealNetworkMonitor(distributed=monitor, target_hosts=()).get_current_metrics()
    assert not calls
