"""Collectives that hang, said while they do: a span comes only when a collective, or the process, ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from otel_netmon import semconv
from otel_netmon.internals.otel_internals_logs import emit_event
from otel_netmon.version import __version__

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent

_logger = logging.getLogger(__name__)

_MOST: Final = 16
"""Told per look, so that a thousand that hang at once do not flood the log; the rest follows at the next ones."""


class HangDetector:
    """Tells of each collective that is in flight for longer than ``after`` seconds, once: as an OpenTelemetry log
    event through the global provider, and in the process's log. 0 never tells. Used by one thread."""

    def __init__(self, after: float) -> None:
        self._after = int(after * 1e9)

    def look(
        self,
        in_flight: list[CollectiveEvent],
        ids: Callable[[CollectiveEvent], tuple[int, int]],
        about: dict[str, Any],
    ) -> None:
        """Tell of those of ``in_flight`` that are new; ``ids`` gives trace and span id, ``about`` is the rank.

        A send that nobody waits for may have ended long ago: it is not said to hang.
        """
        if not self._after:
            return
        now = time.monotonic_ns()
        left = _MOST
        for event in in_flight:
            if now - event.start <= self._after or event.span_id or event.is_unseen:
                continue
            if left == 0:
                return
            left -= 1
            trace_id, event.span_id = ids(event)
            self._tell(event, (now - event.start) / 1e9, trace_id, event.span_id, about)

    def _tell(
        self, event: CollectiveEvent, age: float, trace_id: int, span_id: int, about: dict[str, Any]
    ) -> None:
        operation, group = event.operation.name, event.group
        _logger.warning(
            "otel-netmon: %s number %s of group %s (%d ranks) has been in flight for %.0f s on rank %s",
            operation, event.sequence, group.name, group.size, age, about.get(semconv.RANK, "?"),
        )  # fmt: skip
        attributes = {
            semconv.COLLECTIVE_NAME: operation,
            semconv.GROUP_NAME: group.name,
            semconv.GROUP_SIZE: group.size,
            semconv.BACKEND: group.backend,
            semconv.COLLECTIVE_SIZE: event.size,
            semconv.COLLECTIVE_AGE: age,
            **about,
        }
        if event.sequence is not None:
            attributes[semconv.COLLECTIVE_SEQUENCE] = event.sequence
        context = SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
        emit_event(
            semconv.SCOPE_COLLECTIVES,
            __version__,
            semconv.SCHEMA_URL,
            severity="WARN",
            timestamp=time.time_ns(),
            context=set_span_in_context(NonRecordingSpan(context)),
            body=f"{operation} of group {group.name} is in flight for {age:.0f} s",
            attributes=attributes,
            event_name=semconv.EVENT_STALLED,
        )
