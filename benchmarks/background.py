"""What one collective costs the background: from the ring until its bytes are in a file or have left."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator

import torch
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from benchmarks.captured import backends, blocking, group, packing, providers_to
from benchmarks.measuring import Line, Size, sink, spread
from otel_netmon import config
from otel_netmon.capture.backends.native import NativeBackend
from otel_netmon.capture.event import CollectiveEvent, CollectiveKind
from otel_netmon.capture.operations import OPERATIONS
from otel_netmon.capture.recorder import Recorder
from otel_netmon.capture.ring import EventRing
from otel_netmon.capture.steps import StepTracker
from otel_netmon.emit.emitter import Emitter
from otel_netmon.emit.metrics import CollectiveMetrics
from otel_netmon.emit.spans import SpanWriter
from otel_netmon.job.groups import Group, Groups
from otel_netmon.job.identity import RunId
from otel_netmon.job.job import Job
from otel_netmon.job.roles import RankIdentity
from otel_netmon.job.steps import StepMarks


@contextlib.contextmanager
def filled(count: int, *, native: bool) -> Iterator[EventRing]:
    """With collectives that have ended: events, or calls that the native capture recorded on torch's fake
    backend."""
    ring = EventRing(count)
    if not native:
        fill(ring, Group("0", 8, 0, "gloo"), count)
        yield ring
        return
    backend = NativeBackend(Recorder(ring, StepTracker()), Groups())
    tensor = torch.ones(1024)
    with group("fake"):
        backend.install()
        for _ in range(count):
            blocking(tensor)
        yield ring
        backend.remove()


def fill(ring: EventRing, of: Group, count: int) -> None:
    """With finished events."""
    kind = CollectiveKind(OPERATIONS["allreduce_"], of, 4096, torch.float32)
    for i in range(count):
        event = CollectiveEvent(kind, i * 1000, 0, i)
        ring.begin(event)
        ring.finish(event, i * 1000 + 500, None)


def emitter_of(ring: EventRing, tracer_provider: TracerProvider, meter_provider: MeterProvider) -> Emitter:
    """One that is never full."""
    job = Job(RankIdentity(), RunId(None, 0.0), None)
    settings = config.Config(ring_size=1 << 20)
    return Emitter(CollectiveMetrics.of(meter_provider, ring), SpanWriter(tracer_provider), settings, job)


def once(kind: str, where: str, count: int, *, native: bool) -> float:
    """Microseconds of CPU of all threads for each of ``count`` collectives."""
    tracer_provider, meter_provider = providers_to(kind, where)
    with filled(count, native=native) as ring:
        emitter = emitter_of(ring, tracer_provider, meter_provider)
        emitter.marks(StepMarks([], 0, 0))
        emitter.take(ring.drain(1))
        emitter.emit("run")  # the first span of a provider is made by the SDK
        start = time.process_time()
        while True:
            plain, events = ring.take(512)
            if plain is None and not events:
                break
            if plain is not None:
                emitter.take_plain(plain)
            emitter.take(events)
            emitter.emit("run")
        tracer_provider.force_flush()
        meter_provider.force_flush()
        cpu = time.process_time() - start
    tracer_provider.shutdown()
    meter_provider.shutdown()
    return cpu / count * 1e6


def emitting(size: Size) -> Iterator[Line]:
    """Nothing else runs in the process: caches are warm, and nobody wants the interpreter lock."""
    limit = packing(size(100_000, 100))
    why = backends()["native"]
    for kind in ("files", "OTLP"):
        for native in (True, False):
            way = "native" if native else "hooks in Python"
            what = f"background CPU per collective, idle process, to {kind}, {way}"
            if native and why:
                yield Line(what, "us", None, limit, "60", 8.0, note=why)
                continue
            with tempfile.TemporaryDirectory() as folder, sink() as (endpoint, _):
                where = folder if kind == "files" else endpoint
                found = [once(kind, where, size(10_000, 20), native=native) for _ in range(size(9, 1) + 1)][1:]
            yield Line(what, "us", spread(found), limit, "60", 8.0)
