"""Telemetry of a run that never was, written by the real SDK through our own exporters."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from otel_netmon import config, semconv
from otel_netmon.local_files import LocalSpanExporter

MS = 1_000_000
SIZE = 4_000_000
STEP_MS = 100.0

Lateness = Callable[[int, int], float]
"""Milliseconds by which a rank (second) comes late in a step (first)."""


def write_run(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    ranks: int = 4,
    steps: int = 30,
    late: Lateness = lambda _step, _rank: 0.0,
    only: Iterable[int] | None = None,
) -> None:
    """Write ``steps`` steps of one all_reduce each, the transfer taking 10 ms, as ranks ``only`` (default: all).

    All ranks leave an all_reduce together, so the latest has the shortest duration.
    """
    monkeypatch.setenv(config.OUTPUT_DIR, str(folder))
    config.current.cache_clear()
    for rank in range(ranks) if only is None else only:
        provider = TracerProvider(resource=Resource({"service.instance.id": f"i{rank}", "host.name": "h"}))
        provider.add_span_processor(BatchSpanProcessor(LocalSpanExporter(), max_queue_size=100_000))
        tracer = provider.get_tracer("test")
        for step in range(steps):
            _write_step(tracer, step, rank, ranks, [late(step, other) for other in range(ranks)])
        provider.shutdown()
    config.current.cache_clear()


def _write_step(tracer: trace.Tracer, step: int, rank: int, ranks: int, late: list[float]) -> None:
    begin = 10**18 + int(step * STEP_MS * MS)
    trace_id = (0xABC << 64) + step + 1
    root = trace.SpanContext(trace_id, 7, is_remote=True, trace_flags=trace.TraceFlags(1))
    parent = trace.set_span_in_context(trace.NonRecordingSpan(root))
    who = {semconv.RANK: rank, semconv.WORLD_SIZE: ranks}
    start, end = begin + int(late[rank] * MS), begin + int((max(late) + 10) * MS)
    algbw = SIZE * 1e9 / (end - start)
    _span(
        tracer,
        "all_reduce",
        parent,
        (start, end),
        {
            **who,
            semconv.COLLECTIVE_NAME: "all_reduce",
            semconv.COLLECTIVE_SEQUENCE: step + 5,
            semconv.COLLECTIVE_SIZE: SIZE,
            semconv.COLLECTIVE_ALGBW: algbw,
            semconv.COLLECTIVE_BUSBW: 1.5 * algbw,
            semconv.GROUP_NAME: "0",
            semconv.GROUP_SIZE: ranks,
            semconv.BACKEND: "gloo",
        },
    )
    names = (semconv.SPAN_RANK_STEP, semconv.SPAN_TRAIN_STEP) if rank == 0 else (semconv.SPAN_RANK_STEP,)
    for name in names:
        attributes = {**who, semconv.STEP: step, semconv.RUN_ID: "run"}
        _span(tracer, name, parent, (begin, begin + int(STEP_MS * MS)), attributes)


def _span(
    tracer: trace.Tracer, name: str, parent: Any, times: tuple[int, int], attributes: dict[str, Any]
) -> None:
    tracer.start_span(name, context=parent, start_time=times[0], attributes=attributes).end(times[1])


def metrics_line(
    instance: str,
    metric: str,
    points: Iterable[tuple[int, float, dict[str, str]]],
    *,
    kind: str = "sum",
    delta: bool = False,
) -> str:
    """One OTLP JSON line with points ``(seconds, value, attributes)`` of one process of host ``h``."""
    value = "count" if kind == "histogram" else "asInt"
    data = {
        "dataPoints": [
            {"timeUnixNano": str(seconds * 10**9), value: str(number), "attributes": attributes_of(attributes)}
            for seconds, number, attributes in points
        ],
        "aggregationTemporality": 1 if delta else 2,
    }
    resource = {"attributes": attributes_of({"service.instance.id": instance, "host.name": "h"})}
    message = {
        "resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [{"name": metric, kind: data}]}]}]
    }
    return json.dumps(message) + "\n"


def attributes_of(values: dict[str, str]) -> list[dict[str, Any]]:
    """``values`` as OTLP JSON attributes."""
    return [{"key": key, "value": {"stringValue": value}} for key, value in values.items()]
