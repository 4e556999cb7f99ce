"""Telemetry of a run that never was, written by the real SDK through our own exporters."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry._logs import Logger, LogRecord
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from otel_netmon import config, schema, semconv
from otel_netmon.delivery.local_files import LocalLogExporter, LocalSpanExporter
from otel_netmon.records import Call, GroupUse, RankStep

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
    every: int = 1,
    lost: Callable[[int, int, str], bool] = lambda _step, _rank, _span: False,
    run: str = "run",
    says_counts: bool = False,
    traces: Callable[[int], bool] | None = None,
    logs: Callable[[int, int], bool] = lambda _step, _rank: True,
) -> None:
    """Write ``steps`` steps of one all_reduce each, the transfer taking 10 ms, as ranks ``only`` (default: all).

    All ranks leave an all_reduce together, so the latest has the shortest duration. Of every ``every``th step
    there are spans, but for those that are ``lost``; a step's say how many collectives it had if ``says_counts``.
    With ``traces``, which tells the ranks that make spans of collectives, each step says all it can: in its span,
    or in a log event, but for those that ``logs`` loses.
    """
    monkeypatch.setenv(config.OUTPUT_DIR, str(folder))
    config.current.cache_clear()
    for rank in range(ranks) if only is None else only:
        provider = TracerProvider(
            resource=Resource({"service.instance.id": instance_of(run, rank), "host.name": "h"})
        )
        provider.add_span_processor(BatchSpanProcessor(LocalSpanExporter(), max_queue_size=100_000))
        tracer = provider.get_tracer("test")
        events = LoggerProvider(resource=provider.resource, shutdown_on_exit=False)
        events.add_log_record_processor(BatchLogRecordProcessor(LocalLogExporter()))
        for step in range(steps):
            times = [late(step, other) for other in range(ranks)]
            is_sampled = step % every == 0 and (traces is None or traces(rank))
            sums: dict[str, Any] = {semconv.STEP_COLLECTIVE_COUNT: 1} if says_counts else {}
            if traces is not None:
                sums = {**sums, **schema.attributes(_record(step, rank, ranks, times, run, is_sampled))}
            if step % every == 0:
                _write_step(
                    tracer,
                    *(step, rank, ranks, times),
                    lost if is_sampled else lambda s, r, name: name == "all_reduce" or lost(s, r, name),
                    *(run, sums),
                )
            elif traces is not None and logs(step, rank):
                _log_step(events.get_logger("test"), step, sums)
        provider.shutdown()
        events.shutdown()
    config.current.cache_clear()


def instance_of(run: str, rank: int) -> str:
    return f"i{rank}" if run == "run" else f"{run} i{rank}"


def _record(step: int, rank: int, ranks: int, late: list[float], run: str, is_sampled: bool) -> RankStep:
    """What a rank says of a step, whether it is sampled or not."""
    duration = int((max(late) + 10 - late[rank]) * 1000)
    return RankStep(
        semconv.SPAN_RANK_STEP,
        run_id=run,
        rank=rank,
        world_size=ranks,
        step=step,
        sampled=is_sampled,
        collective_count=1,
        collective_size=SIZE,
        groups=(GroupUse("0", 1, SIZE, duration, step + 5, ranks),),
        calls=(Call("all_reduce", "0", int(late[rank] * 1000), duration),),
    )


def _log_step(logger: Logger, step: int, attributes: dict[str, Any]) -> None:
    start = 10**18 + int(step * STEP_MS * MS)
    logger.emit(
        LogRecord(
            timestamp=start + int(STEP_MS * MS),
            attributes={**attributes, semconv.STEP_START: start},
            event_name=semconv.EVENT_OF_PERIOD[semconv.SPAN_RANK_STEP],
            context=_within(attributes[semconv.RUN_ID], step),
        )
    )


def _within(run: str, step: int) -> Context:
    """The root of a step's trace."""
    trace_id = ((0xABC if run == "run" else sum(run.encode())) << 64) + step + 1
    root = trace.SpanContext(trace_id, 7, is_remote=True, trace_flags=trace.TraceFlags(1))
    return trace.set_span_in_context(trace.NonRecordingSpan(root))


def _write_step(
    tracer: trace.Tracer,
    step: int,
    rank: int,
    ranks: int,
    late: list[float],
    lost: Callable[[int, int, str], bool],
    run: str,
    sums: dict[str, int],
) -> None:
    begin = 10**18 + int(step * STEP_MS * MS)
    parent = _within(run, step)
    who: dict[str, Any] = {semconv.RANK: rank, semconv.WORLD_SIZE: ranks}
    start, end = begin + int(late[rank] * MS), begin + int((max(late) + 10) * MS)
    algbw = SIZE * 1e9 / (end - start)
    about: dict[str, Any] = {
        **who,
        semconv.COLLECTIVE_NAME: "all_reduce",
        semconv.COLLECTIVE_SEQUENCE: step + 5,
        semconv.COLLECTIVE_SIZE: SIZE,
        semconv.COLLECTIVE_ALGBW: algbw,
        semconv.COLLECTIVE_BUSBW: 1.5 * algbw,
        semconv.GROUP_NAME: "0",
        semconv.GROUP_SIZE: ranks,
        semconv.BACKEND: "gloo",
    }
    if not lost(step, rank, "all_reduce"):
        _span(tracer, "all_reduce", parent, (start, end), about)
    names = (semconv.SPAN_RANK_STEP, semconv.SPAN_TRAIN_STEP) if rank == 0 else (semconv.SPAN_RANK_STEP,)
    for name in names:
        attributes: dict[str, Any] = {**who, semconv.STEP: step, semconv.RUN_ID: run}
        if name == semconv.SPAN_RANK_STEP:
            attributes |= {semconv.STEP_COLLECTIVE_TIME: (end - start) / 1e9, **sums}
        if not lost(step, rank, name):
            _span(tracer, name, parent, (begin, begin + int(STEP_MS * MS)), attributes)


def write_metrics(
    folder: Path, *, ranks: int = 4, steps: int | None = 30, calls: int = 30, run: str = "run", **has: bool
) -> None:
    """What the same ranks count: steps (``None``: no such metric), and collectives by duration and by size."""
    key: dict[str, str] = {semconv.COLLECTIVE_NAME: "all_reduce", semconv.GROUP_NAME: "0", semconv.BACKEND: "gloo"}
    counts: list[tuple[str, int, dict[str, str], str]] = [
        (semconv.COLLECTIVE_DURATION_METRIC.name, calls if has.get("durations", True) else 0, key, "histogram"),
        (semconv.COLLECTIVE_SIZE_METRIC.name, calls, key, "histogram"),
        (semconv.COLLECTIVE_IO_METRIC.name, calls * SIZE, key, "sum"),
    ]
    if steps is not None:
        counts.append((semconv.STEP_DURATION_METRIC.name, steps, {}, "histogram"))
    folder.mkdir(exist_ok=True)
    for rank in range(ranks):
        lines = [
            metrics_line(instance_of(run, rank), name, [(1, 1, about), (9, count, about)], kind=kind, rank=rank)
            for name, count, about, kind in counts
        ]
        (folder / f"metrics-{run}-{rank}.jsonl").write_text("".join(lines))


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
    rank: int | None = None,
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
    if rank is not None:
        resource["attributes"].append({"key": semconv.RANK, "value": {"intValue": str(rank)}})
    message = {
        "resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [{"name": metric, kind: data}]}]}]
    }
    return json.dumps(message) + "\n"


def attributes_of(values: dict[str, str]) -> list[dict[str, Any]]:
    """``values`` as OTLP JSON attributes."""
    return [{"key": key, "value": {"stringValue": value}} for key, value in values.items()]
