"""What reading the metrics costs, and what collectives that nobody exports hold in memory."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

from opentelemetry.metrics import CallbackOptions
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from benchmarks.background import emitter_of, fill
from benchmarks.measuring import Line, Size, Spread, spread
from otel_netmon import Monitor, semconv
from otel_netmon.capture.ring import EventRing
from otel_netmon.job.groups import Group
from otel_netmon.job.steps import StepMarks
from otel_netmon.monitors.points import Point, attributes

SERIES = 500


class Many(Monitor):
    """A monitor with 500 series of five metrics."""

    name = "many"
    metrics: ClassVar = (
        semconv.NIC_IO,
        semconv.NIC_PACKETS,
        semconv.NIC_DROPPED,
        semconv.NIC_ERRORS,
        semconv.NIC_UP,
    )

    def sample(self) -> Iterable[Point]:
        """The points."""
        for metric in self.metrics:
            for number in range(SERIES // len(self.metrics)):
                yield Point(metric, number, attributes((semconv.INTERFACE, f"eth{number}")))


def milliseconds(work: Callable[[], object], rounds: int) -> Spread:
    """CPU of the calling thread."""
    found = []
    for _ in range(rounds + 1):
        start = time.thread_time()
        work()
        found.append((time.thread_time() - start) * 1e3)
    return spread(found[1:])


def ours_and_all(
    of: str, callbacks: Callable[[], object], reader: InMemoryMetricReader, rounds: int
) -> Iterator[Line]:
    """What our callbacks take of a collection, and what the whole of it does."""
    alone, what = milliseconds(callbacks, rounds), f"metrics' collection, {SERIES} series of {of}"
    yield Line(f"{what}: our callbacks", "ms", alone, None, "", 1.0)
    everything = milliseconds(reader.get_metrics_data, rounds)
    yield Line(f"{what}: all of the SDK's collect", "ms", everything, alone.median)


def series(size: Size) -> Iterator[Line]:
    """500 series of a monitor, and as many of collectives: 100 groups with three histograms and two sums."""
    rounds = size(50)
    monitor, reader = Many(), InMemoryMetricReader()
    monitor.register(MeterProvider([reader], shutdown_on_exit=False).get_meter("bench"))
    monitor.run_once()
    yield from ours_and_all(
        "monitors", lambda: [monitor.observations(metric.name) for metric in monitor.metrics], reader, rounds
    )
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    ring = EventRing(16384)
    emitter = emitter_of(ring, TracerProvider(shutdown_on_exit=False), provider)
    for number in range(100):
        fill(ring, Group(f"g{number}", 8, 0, "gloo"), 5)
    emitter.marks(StepMarks([], 0, 0))
    emitter.take(ring.drain())
    instruments: Any = provider._measurement_consumer._async_instruments  # what is ours in the SDK's collect
    callbacks = [callback for instrument in instruments for callback in instrument._callbacks]
    options = CallbackOptions()
    yield from ours_and_all(
        "collectives", lambda: [list(callback(options)) for callback in callbacks], reader, rounds
    )


def memory(size: Size) -> Iterator[Line]:
    """Of collectives that nobody takes out of the ring."""
    count = size(1_000_000, 100)
    ring = EventRing(16384)
    tracemalloc.start()
    fill(ring, Group("0", 8, 0, "gloo"), count)
    held = tracemalloc.get_traced_memory()[0] / 2**20
    tracemalloc.stop()
    what = f"memory after {count:,} collectives that were not exported"
    yield Line(what, "MiB", spread([held]), None, "4.4", note=f"{ring.overwritten:,} dropped and counted")
