"""The spans of single collectives: below their rank's part of a step, or as a trace of their own.

Samplers and processors are the user's: what they raise costs those spans, and no others.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from otel_netmon.delivery.packed import Place
from otel_netmon.emit.encoding import Trace
from otel_netmon.emit.intervals import Tie, tied_by_group
from otel_netmon.emit.unsent import Unsent, has_failed
from otel_netmon.guard import log_once
from otel_netmon.job import identity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.capture.plain import PlainCalls
    from otel_netmon.emit.chosen import Chosen
    from otel_netmon.emit.intervals import Interval
    from otel_netmon.emit.spans import SpanWriter

_logger = logging.getLogger(__name__)


class Losses:
    """Counts spans that are lost."""

    def __init__(self) -> None:
        self.count = 0

    def guarded(self, make: Callable[..., None], *what: Any, spans: int = 1) -> None:
        """Make so many spans."""
        try:
            make(*what)
        except Exception as error:  # noqa: BLE001  # law 1, see above
            self.count += spans
            log_once(_logger, error, "otel-netmon: a span is lost, its sampler or processor failed")


class CollectiveSpans:
    """Makes one rank's spans. Used by one thread at a time."""

    def __init__(
        self, spans: SpanWriter, chosen: Chosen, member: int | str, epoch: int, guarded: Callable[..., None]
    ) -> None:
        """``epoch`` is what makes a time of the monotonic clock one of the epoch; ``guarded`` makes spans."""
        self._spans = spans
        self._chosen = chosen
        self._member = member
        self._epoch = epoch
        self._guarded = guarded
        self._unsent = Unsent(chosen.last_calls)
        self._plain: list[tuple[PlainCalls, Trace]] = []

    def add(self, run_id: str, interval: Interval, events: Sequence[CollectiveEvent]) -> None:
        """Of some events of one interval."""
        below = [event for event in events if event.kind.group.run_id is None]
        if len(below) < len(events):
            for event in events:
                of_group = tied_by_group(event)
                if of_group is None:
                    below.append(event)
                else:
                    self._guarded(self._make_tied, of_group, event)
        if below:
            self._guarded(self._make_below_step, run_id, interval, below, spans=len(below))

    def add_plain(self, run_id: str, interval: Interval, calls: PlainCalls) -> None:
        """Of some plain calls of one interval, with the next ``make_plain``: where the spans are packed."""
        if self._chosen.has_calls(run_id, interval):
            self._plain.append((calls, Trace(*self._parent(run_id, interval), self._epoch, 0)))
        else:
            self._unsent.add_plain(interval, calls)

    def make_plain(self) -> None:
        """Of all plain calls that were added, at once."""
        plain, self._plain = self._plain, []
        self._guarded(self._spans.emit_plain, plain, spans=sum(len(calls) for calls, _ in plain))

    def _make_below_step(self, run_id: str, interval: Interval, events: Sequence[CollectiveEvent]) -> None:
        if not self._chosen.has_calls(run_id, interval):
            self._unsent.add(interval, events)
            if not any(map(has_failed, events)) or not self._chosen.choose(run_id, interval):
                return
            events = self._unsent.take(interval)
        trace_id, parent_id = self._parent(run_id, interval)
        if self._spans.packs:
            self._spans.emit_events(events, trace_id, parent_id, self._epoch)
        else:
            for event in events:
                self._guarded(self._make, event, trace_id, parent_id, event.span_id)

    def _parent(self, run_id: str, interval: Interval) -> tuple[int, int]:
        """Ids of the trace and of this rank's span in it."""
        return identity.trace_id(run_id, interval.key), identity.rank_id(run_id, interval.key, self._member)

    def _make_tied(self, of_group: Tie, event: CollectiveEvent) -> None:
        if self._chosen.has_tied(of_group, event.operation.name):
            is_root = of_group.is_root
            parent_id, span_id = (None, of_group.root_id) if is_root else (of_group.root_id, event.span_id)
            self._make(event, of_group.trace_id, parent_id, span_id)

    def _make(self, event: CollectiveEvent, trace_id: int, parent_id: int | None, span_id: int) -> None:
        start = event.start + self._epoch
        end = (time.monotonic_ns() if event.end is None else event.end) + self._epoch
        self._spans.emit_event(event, event.kind.about, Place(trace_id, parent_id, span_id, start, end))
