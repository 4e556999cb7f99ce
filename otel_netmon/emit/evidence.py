"""What a rank did in a step, setup or window, for every one of them: diagnosis must not depend on what is sampled.

As a span where the trace is sampled, else as a log event of the same fields. The same goes for what moved between
this rank and its peers meanwhile: an event of that span, or a log event. While a step is open for long, that does
not wait for its end, which may never come: it is a log event at once.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_netmon import schema, semconv
from otel_netmon.delivery.packed import Place
from otel_netmon.emit.intervals import of_step
from otel_netmon.emit.spans import link_to
from otel_netmon.job import identity, peers
from otel_netmon.job.steps import SETUP
from otel_netmon.records import RankStep

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_netmon.emit.intervals import Interval, StepResolver
    from otel_netmon.emit.log_events import LogEvents
    from otel_netmon.emit.observer import Observer
    from otel_netmon.emit.spans import SpanWriter
    from otel_netmon.records import PeerTraffic

_SLACK: Final = 500_000_000
"""Nanoseconds by which a reading of connections may be older than the interval that shows it."""

_LONG: Final = 2_000_000_000
"""Nanoseconds for which an interval has to be open for its traffic to be told before its end."""

_ON_RANK: Final = {
    semconv.SPAN_TRAIN_STEP: semconv.SPAN_RANK_STEP,
    semconv.SPAN_SETUP: semconv.SPAN_RANK_SETUP,
    semconv.SPAN_WINDOW: semconv.SPAN_RANK_WINDOW,
}
_INCOMPLETE: Final = RankStep._fields.index("incomplete") + 1


class Told(NamedTuple):
    """What is told of an interval, with times since the epoch. ``kind`` is that of the root of its trace."""

    kind: str
    record: RankStep
    traffic: list[PeerTraffic]
    place: Place


class EvidenceWriter:
    """Writes one process's records of intervals. Used by one thread at a time."""

    def __init__(
        self, spans: SpanWriter, logs: LogEvents, epoch: int, member: int | str, observer: Observer | None = None
    ) -> None:
        self._observer = observer
        self._spans = spans
        self._logs = logs
        self._epoch = epoch
        """What makes a time of the monotonic clock one of the epoch, in nanoseconds."""
        self._member = member

    def prepared(self, kind: str, key: str, record: RankStep) -> Told:
        """A record, whose times are monotonic, with what belongs to it; in the trace that ``key`` is of."""
        run_id = record.run_id or ""
        trace_id, root = identity.trace_id(run_id, key), identity.root_id(run_id, key)
        span_id = identity.rank_id(run_id, key, self._member)
        if self._observer is not None:
            self._observer.step(record, trace_id, span_id)
        seen = peers.readings.until(record.end)
        traffic = [each._replace(rank=record.rank) for each in seen if each.at >= record.start - _SLACK]
        record = record._replace(
            name=_ON_RANK[kind], start=record.start + self._epoch, end=record.end + self._epoch
        )
        if len(seen) > len(traffic):
            peers.readings.unseen(len(seen) - len(traffic))
        return Told(kind, record, traffic, Place(trace_id, root, span_id, record.start, record.end))

    def write(self, told: Told, *, as_span: bool, is_root: bool) -> None:
        """Write a record as a span of its trace, or as a log event. ``is_root``: this process also makes the root
        of the trace."""
        if as_span:
            self._write_spans(told, is_root)
        elif self._logs.ready():
            self._write_logs(told)
        elif told.traffic:
            peers.readings.unseen(len(told.traffic))

    def _write_spans(self, told: Told, is_root: bool) -> None:
        kind, record, traffic, place = told
        links = list(self._spans.links)
        if record.attempt and (kind == semconv.SPAN_SETUP or record.step == 0):
            before, key = identity.previous(record.run_id or "", record.attempt), of_step(SETUP).key
            links.append(link_to(identity.trace_id(before, key), identity.root_id(before, key)))
        events = [(each.at + self._epoch, schema.attributes(each)) for each in traffic]
        self._spans.emit(record.name, place, schema.attributes(record), links=links, events=events)
        if is_root:
            of_the_job: Any = record[1:_INCOMPLETE]
            above = place._replace(parent_id=None, span_id=place.parent_id or 0)
            self._spans.emit(kind, above, schema.attributes(RankStep(kind, *of_the_job)), links=links)

    def _write_logs(self, told: Told) -> None:
        _, record, traffic, place = told
        ids = place.trace_id, place.span_id
        what = record.name if record.step is None else f"{record.name} {record.step}"
        attributes = {**schema.attributes(record), str(semconv.STEP_START): record.start}
        name = semconv.EVENT_OF_PERIOD[record.name]
        self._logs.emit(name, f"{what}, not traced", attributes, time=record.end, ids=ids)
        self._log_traffic(traffic, ids, sampled=False)

    def write_open(
        self,
        run_id: str,
        rank: int | None,
        intervals: StepResolver,
        since: int,
        is_sampled: Callable[[str, Interval], bool],
    ) -> None:
        """Write the traffic of the interval that is open, if it has been since long ago: what was not written yet
        of the time after ``since`` (monotonic)."""
        now = time.monotonic_ns()
        self._write_nics(rank)
        if now - since <= _LONG or not self._logs.ready() or not (traffic := peers.readings.since(since)):
            return
        interval = intervals.at(now)
        ids = identity.trace_id(run_id, interval.key), identity.rank_id(run_id, interval.key, self._member)
        sampled = self._spans.ready() and is_sampled(run_id, interval)
        self._log_traffic([each._replace(rank=rank) for each in traffic], ids, sampled=sampled)

    def _write_nics(self, rank: int | None) -> None:
        """What NICs moved is of the host, and not of a step: it goes out as it is read."""
        for each in peers.nic_readings.since(0):
            attributes, at = schema.attributes(each._replace(rank=rank)), each.at + self._epoch
            self._logs.emit(semconv.EVENT_NIC_TRAFFIC, f"traffic of {each.interface}", attributes, time=at)

    def _log_traffic(self, traffic: list[PeerTraffic], ids: tuple[int, int], *, sampled: bool) -> None:
        for each in traffic:
            about, at = f"traffic with rank {each.peer}", each.at + self._epoch
            attributes = schema.attributes(each)
            self._logs.emit(semconv.EVENT_TCP_PEER, about, attributes, time=at, ids=ids, sampled=sampled)
