"""Telemetry of ranks that never were, made and encoded by this package's own emitter, as requests of OTLP."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from opentelemetry import _logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from otel_netmon import config
from otel_netmon.capture.event import CollectiveEvent, CollectiveKind
from otel_netmon.capture.operations import OPERATIONS
from otel_netmon.capture.ring import EventRing
from otel_netmon.delivery.base import LogsTo, SpansTo
from otel_netmon.delivery.in_pieces import spans_message
from otel_netmon.delivery.otlp_protobuf import Protobuf
from otel_netmon.emit.emitter import Emitter
from otel_netmon.emit.metrics import CollectiveMetrics
from otel_netmon.emit.spans import SpanWriter
from otel_netmon.internals.otel_internals_logs import encode_logs
from otel_netmon.job.groups import Group
from otel_netmon.job.identity import RunId
from otel_netmon.job.job import Job
from otel_netmon.job.roles import RankIdentity
from otel_netmon.job.steps import Step, StepMarks
from otel_netmon.records import ResourceUsage

COLLECTIVES = 200
"""Of a step of a rank's."""
STEPS_A_SECOND = 2
ROUND = 10
"""Steps that are sent at a time: every 5 s, as the SDK does."""
_STEP = 1_000_000_000 // STEPS_A_SECOND
_RUN = "0123456789abcdef0123456789abcdef"


class Sent(NamedTuple):
    """One request."""

    signal: Literal["traces", "logs"]
    data: bytes
    rows: int


class _Kept:
    """A sink that keeps requests."""

    def __init__(self, signal: Literal["traces", "logs"], to: list[Sent]) -> None:
        self._signal: Literal["traces", "logs"] = signal
        self._to = to

    def put(self, data: bytes, items: int) -> bool:
        self._to.append(Sent(self._signal, data, items))
        return True

    def flush(self, timeout: float) -> bool:  # noqa: ARG002 - as a sink is asked
        return True

    def close(self, timeout: float) -> None:
        """Nothing is held."""


class _Rank:
    """One rank's emitter, as it is in a job with ``volume``."""

    def __init__(self, number: int, world: int, volume: str, to: list[Sent]) -> None:
        about: dict[str, str | int] = {
            "service.name": "train", "service.instance.id": f"{number:032x}", "process.pid": 4000 + number,
            "host.name": f"node{number // 8:04}", "torch.distributed.rank": number,
            "torch.distributed.local_rank": number % 8, "torch.distributed.world_size": world,
        }  # fmt: skip
        resource = Resource.create({**about})
        self._tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
        spans = SpansTo(_Kept("traces", to), spans_message, Protobuf())
        self._tracers.add_span_processor(
            BatchSpanProcessor(spans, max_queue_size=32768, schedule_delay_millis=1e9)
        )
        self._logs = LoggerProvider(resource=resource, shutdown_on_exit=False)
        logs = LogsTo(_Kept("logs", to), lambda batch: bytes(encode_logs(batch).SerializeToString()))
        self._logs.add_log_record_processor(BatchLogRecordProcessor(logs, schedule_delay_millis=1e9))
        settings = config.Config(
            volume=volume, heartbeat=0.0, stall_after=0.0, window=0.0, steps_max_bytes=0, ring_size=1 << 16
        )
        job = Job(RankIdentity(number, number % 8, world), RunId(_RUN, 0.0), None)
        metrics = CollectiveMetrics.of(MeterProvider(shutdown_on_exit=False), EventRing(16))
        self._emitter = Emitter(metrics, SpanWriter(self._tracers), settings, job)
        self._kind = CollectiveKind(
            OPERATIONS["allreduce_"], Group("0", world, number, "nccl"), 25 << 20, torch.float32
        )
        self._chance = random.Random(number)
        self._begin = time.monotonic_ns()

    def train(self, steps: range) -> None:
        """Some steps, and what they make is sent."""
        _logs.get_logger_provider = lambda: self._logs  # the emitter looks it up anew
        for number in steps:
            start = self._begin + number * _STEP
            events, at = [], start
            for place in range(COLLECTIVES):
                at += int(self._chance.lognormvariate(0, 0.5) * _STEP / COLLECTIVES / 2)
                event = CollectiveEvent(self._kind, at, number, number * COLLECTIVES + place + 1)
                event.end = at + int(self._chance.lognormvariate(0, 0.5) * 2_000_000)
                events.append(event)
            end = max(start + _STEP - 1, *(event.end or 0 for event in events))
            used = ResourceUsage(*(int(self._chance.lognormvariate(15, 1)) for _ in ResourceUsage._fields))
            step = Step(number, number + 1, start, end, used=used, key=f"{number}.0")
            self._emitter.marks(StepMarks([step], 0, number + 1))
            self._emitter.take(events)
            self._emitter.emit(_RUN)
            self._emitter.emit_intervals(_RUN, None)
        self._tracers.force_flush()
        self._logs.force_flush()

    def close(self) -> None:
        """Stop its threads."""
        self._tracers.shutdown()
        self._logs.shutdown()


def requests(volume: Literal["full", "steps"], numbers: range, world: int, steps: int) -> Iterator[Sent]:
    """What these ranks of a job of ``world`` send in so many steps, in the order of time."""
    to: list[Sent] = []
    looked_up = _logs.get_logger_provider
    ranks = [_Rank(number, world, volume, to) for number in numbers]
    try:
        for first in range(0, steps, ROUND):
            for rank in ranks:
                rank.train(range(first, min(first + ROUND, steps)))
    finally:
        _logs.get_logger_provider = looked_up
        for rank in ranks:
            rank.close()
    yield from to
