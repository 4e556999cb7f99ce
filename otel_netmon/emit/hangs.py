"""Collectives that hang, and the rank's heartbeat: told while it happens, for a span comes only at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from otel_netmon import schema, semconv
from otel_netmon.emit.attributes import in_flight as record_of
from otel_netmon.records import Heartbeat, Sequence

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.emit.log_events import LogEvents
    from otel_netmon.emit.progress import Progress
    from otel_netmon.job.roles import RankIdentity

_logger = logging.getLogger(__name__)

_MOST: Final = 16
"""Reported per look, so that a thousand that hang at once do not flood the log; the rest follows later."""


class HangDetector:
    """Reports each collective that is in flight for longer than ``after`` seconds, once: as a log event, and in
    the process's log. 0 reports none. Used by one thread."""

    def __init__(self, after: float, logs: LogEvents) -> None:
        self._after = int(after * 1e9)
        self._logs = logs

    def look(
        self,
        at: int,
        in_flight: list[CollectiveEvent],
        ids: Callable[[CollectiveEvent], tuple[int, int]],
        rank: RankIdentity,
    ) -> None:
        """Report those in flight ``at`` that time that are new; ``ids`` gives the trace and span id of each.

        A send that nobody waits for may have ended long ago: it is not taken to hang.
        """
        if not self._after:
            return
        left = _MOST
        for event in in_flight:
            if at - event.start <= self._after or event.span_id or event.is_unseen:
                continue
            if left == 0:
                return
            left -= 1
            trace_id, event.span_id = ids(event)
            self._report(event, at, trace_id, rank)

    def _report(self, event: CollectiveEvent, at: int, trace_id: int, rank: RankIdentity) -> None:
        record = record_of(event, rank, at)
        _logger.warning(
            "otel-netmon: %s number %s of group %s (%d ranks) has been in flight for %.0f s on rank %s; compare "
            "what the other ranks are at",
            *(record.operation, record.sequence, record.group, event.group.size, record.age),
            "?" if rank.rank is None else rank.rank,
        )
        self._logs.emit(
            semconv.EVENT_STALLED,
            f"{record.operation} of group {record.group} has been in flight for {record.age:.0f} s",
            schema.attributes(record),
            time=time.time_ns(),
            ids=(trace_id, event.span_id),
            sampled=True,
            severity="WARN",
        )


class HeartbeatSender:
    """Says every ``interval`` seconds that this rank lives, and what it is at: a rank that is stopped sends none,
    one that hangs says in what. 0 sends none. Used by one thread."""

    def __init__(self, interval: float, logs: LogEvents, progress: Progress) -> None:
        self._interval = int(interval * 1e9)
        self._logs = logs
        self._progress = progress
        self._due = 0

    def look(self, at: int, in_flight: list[CollectiveEvent], beat: Heartbeat, rank: RankIdentity) -> None:
        """Send one, if it is due: ``beat``, completed by what was in flight ``at`` that time."""
        now = time.monotonic_ns()
        if not self._interval or now < self._due or not self._logs.ready():
            return
        self._due = now + self._interval
        oldest = sorted(in_flight, key=lambda event: event.start)[:_MOST]
        record = beat._replace(
            rank=rank.rank,
            local_rank=rank.local_rank,
            world_size=rank.world_size,
            sequences=tuple(Sequence(group.name, number) for group, number in self._progress.issued.items()),
            in_flight=tuple(record_of(event, rank, at) for event in oldest),
        )
        self._logs.emit(
            semconv.EVENT_HEARTBEAT,
            f"{len(in_flight)} collectives in flight",
            schema.attributes(record),
            time=time.time_ns(),
        )
