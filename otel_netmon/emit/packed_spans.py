"""Spans that are encoded when they are made, where all of a provider's exporters are this package's.

They wait in the SDK's processors, as the spans of others, but those of a round as one object (``PackedSpans``).
What ``OTEL_BSP_*`` promise holds: the delay, since the processor has it; and how many spans a request has and how
many wait at most, since they are exported at once when there are enough for a request.
"""

from __future__ import annotations

import secrets
import weakref
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, SpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_netmon import forks
from otel_netmon.delivery.packed import PackedSpans, TakesPacked
from otel_netmon.emit.encoding import CollectiveEncoder, Trace
from otel_netmon.guard import guarded
from otel_netmon.internals.otel_internals_spans import batch_size

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.capture.plain import PlainCalls
    from otel_netmon.delivery.packed import Place, SpanFormat, WholeSpan
    from otel_netmon.emit.metrics import AttributeSet
_MOST_PLAIN: Final = 128
"""Spans in a chunk that is made at once: it is copied while it is in the processor's caches."""


class _Outlet:
    """A processor, and what is on its way there. Used by one thread."""

    def __init__(
        self, processor: SpanProcessor, made: SpanFormat, of: tuple[Resource, Any], *, is_local: bool
    ) -> None:
        self._processor = processor
        self._is_local = is_local
        self.most = batch_size(processor)
        self.format = made
        self.encoder = CollectiveEncoder(made)
        self._of = of
        self.after_fork_in_child()
        forks.register(self)

    def after_fork_in_child(self) -> None:
        """What was on its way is the parent's."""
        self._open = PackedSpans(*self._of, self.most)
        self._at_most = 0
        """Spans that were not exported yet, or fewer."""
        self._queued: list[weakref.ref[PackedSpans]] = []
        """Handed to the processor, which lets go of them when they are exported, or when spans of others fill its
        queue."""

    def add(self, count: int, chunk: bytes) -> None:
        if self._fills(count, self.most + 1):
            self._export()
        self._open.add(count, chunk)
        self._at_most += count
        if self._fills(0, self.most):
            self._export()

    def _fills(self, count: int, size: int) -> bool:
        """Whether so many spans that were not exported yet would be there, with ``count`` more."""
        if self._at_most + count >= size:
            queued = [pack for each in self._queued if (pack := each()) is not None]
            self._at_most = self._open.count + sum(pack.count for pack in queued)
        return self._at_most + count >= size

    def flush(self) -> None:
        """Hand over what was added; the processor exports it when it thinks fit."""
        if self._open.count:
            pack, self._open = self._open, PackedSpans(*self._of, self.most)
            self._queued = [*(each for each in self._queued if each() is not None), weakref.ref(pack)]
            guarded(self._processor.on_end, pack)

    def _export(self) -> None:
        self.flush()
        guarded(self._processor.force_flush)

    def export(self) -> None:
        """Have what was handed over exported, where it need not wait for more: nothing is lost with the process,
        and the processor's thread has nothing to do."""
        if self._is_local and self._queued:
            self._export()
            self._queued = []


class PackedSpanWriter:
    """Encodes spans for the processors of one provider, as often as their exporters have formats."""

    def __init__(self, outlets: list[_Outlet], limits: SpanLimits) -> None:
        self._outlets = outlets
        self._limits = limits
        self._at_once = min(outlet.most for outlet in outlets)
        """Spans in a chunk, which no request divides."""

    @classmethod
    def of(
        cls,
        processors: Sequence[SpanProcessor],
        resource: Resource,
        scope: InstrumentationScope | None,
        limits: SpanLimits,
    ) -> PackedSpanWriter | None:
        """``None`` where one of the processors, all of them the SDK's, has an exporter of somebody else's."""
        exporters = [getattr(processor, "span_exporter", None) for processor in processors]
        outlets = [
            _Outlet(processor, exporter.format, (resource, scope), is_local=exporter.is_local)
            for processor, exporter in zip(processors, exporters, strict=True)
            if isinstance(exporter, TakesPacked) and exporter.format is not None
        ]
        return cls(outlets, limits) if outlets and len(outlets) == len(processors) else None

    def takes(self, links: Sequence[Any], events: Sequence[Any]) -> bool:
        """Whether the limits of the provider, which the SDK keeps, do not cut a span with these."""
        limits = self._limits
        of_links, of_events = limits.max_links, limits.max_events
        return not (
            (of_links is not None and len(links) > of_links) or (of_events is not None and len(events) > of_events)
        )

    def collectives(self, events: Sequence[CollectiveEvent], of: Trace) -> None:
        """Spans of collectives below one parent."""
        for first in range(0, len(events), self._at_once):
            some = events[first : first + self._at_once]
            # Ids that follow one another, from one that is random in 64 bits, take a third of the space.
            new = secrets.randbits(63) + 1
            ids = [event.span_id or new + place for place, event in enumerate(some)]
            for outlet in self._outlets:
                outlet.add(len(some), outlet.encoder.encode(some, ids, None, of))

    def plain(self, parts: Iterable[tuple[PlainCalls, Trace]]) -> None:
        """As ``collectives``, of those that are not events."""
        chunk: list[tuple[PlainCalls, int, Trace]] = []
        count = 0
        for calls, of in parts:
            most = min(self._at_once, _MOST_PLAIN)
            for first in range(0, len(calls), most):
                some = calls.part(first, most)
                if chunk and not (count + len(some) <= most and chunk[0][0].is_followed_by(some)):
                    self._plain_chunk(chunk, count)
                    chunk, count = [], 0
                chunk.append((some, secrets.randbits(63) + 1, of))
                count += len(some)
        if chunk:
            self._plain_chunk(chunk, count)

    def _plain_chunk(self, chunk: list[tuple[PlainCalls, int, Trace]], count: int) -> None:
        for outlet in self._outlets:
            outlet.add(count, outlet.encoder.encode_plain(chunk))

    def collective(self, event: CollectiveEvent, about: AttributeSet, place: Place) -> None:
        """The span of a single one."""
        epoch = place.start - event.start
        of = Trace(place.trace_id, place.parent_id, epoch, place.end - epoch)
        ids = [place.span_id or secrets.randbits(64) or 1]
        for outlet in self._outlets:
            outlet.add(1, outlet.encoder.encode([event], ids, about, of))

    def span(self, one: WholeSpan) -> None:
        """Any other span of ours."""
        if not one.place.span_id:
            one = one._replace(place=one.place._replace(span_id=secrets.randbits(64) or 1))
        for outlet in self._outlets:
            outlet.add(1, outlet.format.span(one))

    def flush(self) -> None:
        """Hand over what was made."""
        for outlet in self._outlets:
            outlet.flush()

    def export(self) -> None:
        """The same, and have it exported where that costs next to nothing."""
        for outlet in self._outlets:
            outlet.export()
