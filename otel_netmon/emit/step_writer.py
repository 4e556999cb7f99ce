"""The records of steps, setups and windows on their way out: whole or without their single collectives.

Where each step goes out whole (``Chosen.is_full``), at once. Else a step waits until it is known whether it is
slow, for a few seconds, and goes out whole if it is, or if something else sets it apart.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from otel_netmon import schema, semconv
from otel_netmon.delivery.packed import WholeSpan
from otel_netmon.delivery.step_files import StepFiles
from otel_netmon.emit.spans import SCOPE
from otel_netmon.job import identity

if TYPE_CHECKING:
    from otel_netmon.config import Config
    from otel_netmon.emit.chosen import Chosen
    from otel_netmon.emit.evidence import EvidenceWriter, Told
    from otel_netmon.emit.intervals import Interval
    from otel_netmon.emit.spans import SpanWriter
    from otel_netmon.job.slow_steps import SlowSteps
    from otel_netmon.records import RankStep

_MOST: Final = 1024
"""Steps that wait."""
_PATIENCE: Final = 30_000_000_000
"""Nanoseconds after which a rank judges for itself."""


def step_files(settings: Config, spans: SpanWriter) -> StepFiles | None:
    """Where a rank keeps its last steps whole, unless it shall not."""
    if not settings.steps_max_bytes:
        return None
    return StepFiles(settings.steps_dir, settings.steps_max_bytes, lambda: (spans.resource, SCOPE))


class _Pending(NamedTuple):
    interval: Interval
    told: Told
    is_root: bool
    tie: int


class StepWriter:
    """One job's rank. Used by one thread at a time."""

    def __init__(
        self, evidence: EvidenceWriter, chosen: Chosen, slow: SlowSteps, files: StepFiles | None = None
    ) -> None:
        """``files`` take each step whole, on this host."""
        self._evidence = evidence
        self._chosen = chosen
        self._slow = slow
        self._files = files
        self._pending: deque[_Pending] = deque()

    def add(self, run_id: str, interval: Interval, record: RankStep, *, is_root: bool) -> None:
        """An interval is over, or the process ends in it. ``record`` has monotonic times; ``is_root``: this
        process also makes the root of the trace. Raises what the user's sampler does."""
        chosen = self._chosen
        is_step = interval.kind == semconv.SPAN_TRAIN_STEP and not record.incomplete
        if is_step:
            chosen.learn(record.collective_count or 0)
        in_trace = chosen.has(run_id, interval)
        record = record._replace(sampled=chosen.has_calls(run_id, interval))
        as_span = in_trace and (chosen.has_rank or chosen.has_failed(interval))
        told = self._evidence.prepared(interval.kind, interval.key, record)
        chosen.forget(interval)
        if chosen.is_full:
            self._evidence.write(told, as_span=as_span, is_root=is_root)
            return
        if self._files is not None:
            kept = told.record._replace(sampled=False)  # there are no spans of its collectives in that file
            self._files.add(WholeSpan(kept.name, told.place, schema.attributes(kept)))
        if in_trace or record.incomplete:
            self._evidence.write(told, as_span=as_span, is_root=is_root)
        elif is_step:
            tie = identity.tie_of(told.place.trace_id)
            self._slow.closed(interval.number, tie, (record.end - record.start) / 1e9)
            self._pending.append(_Pending(interval, told, is_root, tie))
        else:
            self._write_short(told)

    def release(self, run_id: str, now: int, *, is_last: bool = False) -> None:
        """Write those of which it is known by ``now`` (ns since the epoch) whether they are slow; all, if
        ``is_last``."""
        while self._pending:
            one = self._pending[0]
            is_slow = self._slow.verdict(one.interval.number, one.tie)
            if is_slow is None:
                is_late = is_last or len(self._pending) > _MOST or now - one.told.place.end > _PATIENCE
                if not is_late:
                    break
                is_slow = self._slow.without_a_word(one.tie)
            self._pending.popleft()
            if is_slow:
                as_span = self._chosen.has_rank and self._chosen.is_sampled(run_id, one.interval)
                self._evidence.write(one.told, as_span=as_span, is_root=one.is_root)
            else:
                self._write_short(one.told)
        if self._files is not None:
            self._files.flush()

    def _write_short(self, told: Told) -> None:
        short = told._replace(record=told.record._replace(calls=()))
        self._evidence.write(short, as_span=False, is_root=False)
