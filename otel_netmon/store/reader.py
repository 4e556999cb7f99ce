"""OTLP JSON lines, as the local files and the Collector's file exporter hold them, to records.

Nothing read raises; what could not be used is counted in ``Problems``. Text is cut and freed of control
characters, since it ends up on terminals.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from otel_netmon import semconv
from otel_netmon.endings import LastCalls, RankExit
from otel_netmon.records import (
    Collective,
    Heartbeat,
    HostSample,
    HostTraffic,
    InFlight,
    PeerTraffic,
    RankStep,
    Source,
    Verdict,
)
from otel_netmon.store.decoder import Decoder
from otel_netmon.store.files import lines
from otel_netmon.store.problems import Problems
from otel_netmon.store.values import attributes, dicts, finite, integer, parse, span_id, text, trace_id, whole

Known = (
    Collective
    | RankStep
    | PeerTraffic
    | HostTraffic
    | InFlight
    | Heartbeat
    | RankExit
    | LastCalls
    | Verdict
    | HostSample
)

_DELTA: Final = 1
_NO_VALUE: Final = 1
_PERIODS: Final = frozenset(semconv.SPAN_PERIODS)
_PERIOD_OF: Final = {event: period for period, event in semconv.EVENT_OF_PERIOD.items()}

_process: Final = Decoder(Source)
_collective: Final = Decoder(Collective)
_step: Final = Decoder(RankStep)
_logged_step: Final = Decoder(RankStep, start=semconv.STEP_START)
_traffic: Final = Decoder(PeerTraffic)
_in_flight: Final = Decoder(InFlight)
_OF_A_PROCESS: Final[dict[str, Decoder[Any]]] = {
    semconv.EVENT_HEARTBEAT: Decoder(Heartbeat),
    semconv.EVENT_NIC_TRAFFIC: Decoder(HostTraffic),
    semconv.EVENT_EXITED: Decoder(RankExit),
    semconv.EVENT_LAST_CALLS: Decoder(LastCalls),
}
"""Log events that belong to no trace."""
_verdict: Final = Decoder(Verdict)


def read(path: Path, problems: Problems, progress: Callable[[int], None] = lambda _: None) -> Iterator[Known]:
    """The records of one file in its order. ``progress`` is told the bytes of each line; memory: one line."""
    reader = _Reader(path.name, problems)
    for line in lines(path, problems, progress):
        yield from reader.records(parse(line, problems))


def records(message: dict[str, Any], problems: Problems, file: str = "") -> list[Known]:
    """The records of one message: traces, metrics or logs."""
    return _Reader(file, problems).records(message)


class _Reader:
    """Reads the messages of one file, whose name stands in for a process that does not say who it is."""

    def __init__(self, file: str, problems: Problems) -> None:
        self._file = file
        self._problems = problems
        self._found: list[Known] = []
        self._resource: Any = self
        """The last one, which mostly is the next one as well, and what it says."""
        self._source = Source()

    def records(self, message: dict[str, Any]) -> list[Known]:
        for signal, scopes, items, take in (
            ("resourceSpans", "scopeSpans", "spans", self._span),
            ("resourceLogs", "scopeLogs", "logRecords", self._log),
            ("resourceMetrics", "scopeMetrics", "metrics", self._metric),
        ):
            for group in dicts(message.get(signal), self._problems):
                source = self._source_of(group.get("resource"))
                for scope in dicts(group.get(scopes), self._problems):
                    for item in dicts(scope.get(items), self._problems):
                        take(item, source)
        found, self._found = self._found, []
        return found

    def _source_of(self, resource: Any) -> Source:
        if resource != self._resource:
            self._resource = resource
            self._source = _source(resource, self._file, self._problems)
        return self._source

    def _add(self, record: Known | None) -> None:
        if record is None:
            self._problems.unknown += 1
        else:
            self._found.append(record)

    def _span(self, span: dict[str, Any], source: Source) -> None:
        problems = self._problems
        trace, name = trace_id(span.get("traceId")), text(span.get("name"))
        start, end = whole(span.get("startTimeUnixNano")), whole(span.get("endTimeUnixNano"))
        if trace is None or name is None or start is None or end is None or start > end:
            problems.records += 1
            return
        own = span_id(span.get("spanId"), problems)
        tail = (start, end, trace, own, span_id(span.get("parentSpanId"), problems) or None, source)
        pairs = span.get("attributes")
        if name not in _PERIODS:
            self._add(_collective(pairs, problems, tail))
            return
        self._add(_step(pairs, problems, tail, (name,)))
        for event in dicts(span.get("events"), problems):
            if event.get("name") == semconv.EVENT_TCP_PEER:
                self._peer(event, (trace, own or None, source))

    def _peer(self, event: dict[str, Any], tail: tuple[Any, ...]) -> None:
        time = whole(event.get("timeUnixNano"))
        if time is None:
            self._problems.records += 1
        else:
            self._add(_traffic(event.get("attributes"), self._problems, (time, *tail)))

    def _log(self, log: dict[str, Any], source: Source) -> None:
        problems, name, pairs = self._problems, log.get("eventName"), log.get("attributes")
        if name not in semconv.EVENTS:
            problems.unknown += 1
            return
        trace = trace_id(log.get("traceId")) or ""
        own, time = span_id(log.get("spanId"), problems), whole(log.get("timeUnixNano"))
        if name == semconv.EVENT_TCP_PEER:
            self._peer(log, (trace, own or None, source))
        elif time is None:
            problems.records += 1
        elif name == semconv.EVENT_STALLED:
            self._add(_in_flight(pairs, problems, (time, trace, own, source)))
        elif name in _OF_A_PROCESS:
            self._add(_OF_A_PROCESS[name](pairs, problems, (time, source)))
        elif name == semconv.EVENT_DIAGNOSIS:
            self._add(_verdict(pairs, problems, (time, trace, own, source)))
        else:
            step = _logged_step(pairs, problems, (None, time, trace, own, None, source), (_PERIOD_OF[name],))
            if step is None or step.start is None or step.start > time:
                problems.records += 1
            else:
                self._found.append(step)

    def _metric(self, metric: dict[str, Any], source: Source) -> None:
        problems, name = self._problems, text(metric.get("name"))
        if name is None:
            problems.records += 1
            return
        for kind in ("sum", "gauge", "histogram"):
            data = metric.get(kind)
            if isinstance(data, dict):
                delta = data.get("aggregationTemporality") == _DELTA
                for point in dicts(data.get("dataPoints"), problems):
                    if point.get("flags") != _NO_VALUE:
                        self._point(name, kind == "histogram", point, delta, source)
            elif data is not None:
                problems.records += 1

    def _point(self, name: str, is_histogram: bool, point: dict[str, Any], delta: bool, source: Source) -> None:
        problems = self._problems
        time, start = whole(point.get("timeUnixNano")), whole(point.get("startTimeUnixNano"))
        value: float | None = whole(point.get("count", 0)) if is_histogram else integer(point.get("asInt"))
        value = finite(point.get("asDouble")) if value is None and not is_histogram else value
        if time is None or value is None:
            problems.records += 1
            return
        total, bounds, counts = None, (), ()
        if is_histogram:
            total = finite(point.get("sum"))
            bounds, counts = _buckets(point, problems)
        about = attributes(point.get("attributes"), problems)
        self._found.append(HostSample(name, value, time, about, delta, start, total, bounds, counts, source))


def _buckets(point: dict[str, Any], problems: Problems) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    bounds, counts = point.get("explicitBounds") or [], point.get("bucketCounts") or []
    if isinstance(bounds, list) and isinstance(counts, list) and len(counts) == (len(bounds) + 1 if counts else 0):
        found = tuple(map(finite, bounds)), tuple(map(whole, counts))
        if None not in found[0] and None not in found[1]:
            return found
    problems.records += 1
    return (), ()


def _source(resource: Any, file: str, problems: Problems) -> Source:
    pairs = resource.get("attributes") if isinstance(resource, dict) else None
    source = _process(pairs, problems, ()) or Source()
    if source.instance:
        return source
    # The same for a process's spans and its metrics, which are in two files.
    instance = file if source.rank is None else f"{source.host}:rank {source.rank}"
    return source._replace(instance=instance if source.pid is None else f"{source.host}:{source.pid}")
