"""Spans with the ids that all ranks share, made from finished events through any TracerProvider.

The id generator of *our own* tracer is replaced, because the API has no way to start a span with a given id. On a
tracer that has none (another SDK) spans keep their shared trace id and get random span ids. Where the processors
allow it, spans are made finished (``finished_spans``); the first of a provider goes the SDK's own way.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otel_netmon import schema, semconv
from otel_netmon.delivery.packed import Place, WholeSpan
from otel_netmon.emit.attributes import collective
from otel_netmon.emit.encoding import Trace
from otel_netmon.emit.finished_spans import FastSpanWriter
from otel_netmon.internals.otel_internals_spans import span_processors
from otel_netmon.version import __version__

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.capture.plain import PlainCalls
    from otel_netmon.emit.attribute_sets import AttributeSet
    from otel_netmon.emit.packed_spans import PackedSpanWriter

SCOPE: Final = InstrumentationScope(semconv.SCOPE_COLLECTIVES, __version__, semconv.SCHEMA_URL)
_SAMPLED: Final = trace.TraceFlags(trace.TraceFlags.SAMPLED)
_EMPTY: Final = Context()


class _GivenIds(IdGenerator):
    """Hands out the ids it was told, and random span ids otherwise. Used by one thread.

    The SDK's generator draws from the ``random`` module. Training scripts seed that alike on every rank, which
    would give all ranks the same span ids, and each draw of ours would change the user's own sequence.
    """

    def __init__(self) -> None:
        self.trace_id = 0
        self.span_id = 0

    def generate_span_id(self) -> int:
        given, self.span_id = self.span_id, 0
        return given or secrets.randbits(64) or 1

    def generate_trace_id(self) -> int:
        return self.trace_id or secrets.randbits(128) or 1

    def is_trace_id_random(self) -> bool:
        return True  # a hash: its bits are uniform, as the flag promises


class SpanWriter:
    """Makes spans through ``provider``, or through whichever provider is global when the first is made."""

    def __init__(self, provider: trace.TracerProvider | None = None) -> None:
        self._given = provider
        self._made_from: object = None
        self._tracer: Any = None
        self._ids = _GivenIds()
        self._fast: FastSpanWriter | None = None
        self._tried_fast = False
        self.links = launcher_links()

    def look_again(self) -> None:
        """The provider's resource is another: what was made from it is made anew."""
        self._made_from = None

    def ready(self) -> bool:
        """Whether there is a provider that can make spans; looked up afresh, since it may be set late."""
        provider = self._given or trace.get_tracer_provider()
        if provider is not self._made_from:
            self.flush()
            self._made_from = provider
            self._tracer = self._fast = None
            self._tried_fast = False
            if not isinstance(provider, trace.ProxyTracerProvider | trace.NoOpTracerProvider):
                tracer = provider.get_tracer(semconv.SCOPE_COLLECTIVES, __version__, schema_url=semconv.SCHEMA_URL)
                if not isinstance(tracer, trace.NoOpTracer):
                    self._tracer = tracer
                    if hasattr(tracer, "id_generator"):
                        tracer.id_generator = self._ids
        return self._tracer is not None

    def is_sampled(self, trace_id: int, name: str) -> bool:
        """The sampler's verdict on a root span ``name`` of this trace: the same on all ranks.

        Where no processor takes spans (``OTEL_TRACES_EXPORTER=none``) none is sampled.
        """
        if span_processors(self._made_from) == ():
            return False
        sampler = getattr(self._tracer, "sampler", None)
        if sampler is None:
            return True
        return bool(sampler.should_sample(_EMPTY, trace_id, name).decision.is_sampled())

    @property
    def packs(self) -> bool:
        """Whether ``emit_events`` may be used: no processor would miss anything."""
        return self._packs() is not None

    def emit_events(self, events: Sequence[CollectiveEvent], trace_id: int, parent_id: int, epoch: int) -> None:
        """Make the spans of some collectives, all below one parent, as long as ``packs``; ``epoch`` is what has to
        be added to a time of the monotonic clock, in nanoseconds."""
        if self._fast is not None and self._fast.packs is not None:
            self._fast.packs.collectives(events, Trace(trace_id, parent_id, epoch, time.monotonic_ns()))

    def emit_plain(self, parts: Iterable[tuple[PlainCalls, Trace]]) -> None:
        """As ``emit_events``, of those that are not events."""
        if self._fast is not None and self._fast.packs is not None:
            self._fast.packs.plain(parts)

    def emit_event(self, event: CollectiveEvent, about: AttributeSet, place: Place) -> None:
        """Make the span of a collective."""
        fast = self._fast
        if fast is None or not fast.fit():
            attributes = schema.attributes(collective(event, about))
            self.emit(about.operation, place, attributes, error=event.error is not None)
        elif fast.packs is None:
            fast.emit(event, about, place)
        else:
            fast.packs.collective(event, about, place)

    @property
    def resource(self) -> Resource:
        """That of the provider, as far as it tells."""
        found = getattr(self._made_from, "resource", None)
        return found if isinstance(found, Resource) else Resource.get_empty()

    def flush(self) -> None:
        """Hand the spans that were made to the processors: those that are encoded here are packed until then."""
        if self._fast is not None:
            self._fast.flush()

    def export(self) -> None:
        """Have them exported, where that costs next to nothing."""
        if self._fast is not None:
            self._fast.export()

    def _packs(self) -> PackedSpanWriter | None:
        """What encodes spans, where they are encoded here."""
        return self._fast.packs if self._fast is not None and self._fast.fit() else None

    def emit(
        self,
        name: str,
        place: Place,
        attributes: dict[str, Any],
        *,
        error: bool = False,
        links: list[trace.Link] | None = None,
        events: Sequence[tuple[int, dict[str, Any]]] = (),
    ) -> None:
        """Start and end a span. ``events``: time and attributes of each reading of the connections to a peer."""
        packs = self._packs()
        if packs is not None and packs.takes(links or (), events):
            about_peers = [(semconv.EVENT_TCP_PEER, *each) for each in events]
            packs.span(WholeSpan(name, place, attributes, error, links or (), about_peers))
            return
        trace_id, parent_id, self._ids.span_id, start, end = place
        self._ids.trace_id = trace_id
        span = self._tracer.start_span(
            name,
            context=_EMPTY if parent_id is None else parent_context(trace_id, parent_id),
            attributes=attributes,
            start_time=start,
            links=links,
        )
        if error:
            span.set_status(trace.StatusCode.ERROR)
        for at, about in events:
            span.add_event(semconv.EVENT_TCP_PEER, about, at)
        span.end(end)
        if not self._tried_fast:
            self._tried_fast = True
            self._fast = FastSpanWriter.of(self._made_from, span)


def parent_context(trace_id: int, span_id: int) -> Context:
    """A context whose current span is the sampled, remote span with these ids."""
    context = trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=_SAMPLED)
    return trace.set_span_in_context(trace.NonRecordingSpan(context), _EMPTY)


def link_to(trace_id: int, span_id: int) -> trace.Link:
    """A link to the span with these ids."""
    return trace.Link(trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=_SAMPLED))


def launcher_links() -> list[trace.Link]:
    """A link to the trace that the launcher was started in (``TRACEPARENT``), if there is one."""
    carrier = {name.lower(): os.environ[name] for name in ("TRACEPARENT", "TRACESTATE") if name in os.environ}
    context = trace.get_current_span(TraceContextTextMapPropagator().extract(carrier, _EMPTY)).get_span_context()
    return [trace.Link(context)] if context.is_valid else []
