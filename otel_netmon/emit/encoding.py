"""Spans of collectives from templates: what those of a kind have in common is encoded once.

A template is for one kind of collective, and for what of it is known: which attributes there are, and how long the
number in its group is. It holds the same fields as the record (``attributes``), from which it is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_netmon import schema, semconv
from otel_netmon.bandwidth import rates
from otel_netmon.capture.plain import Below, Template
from otel_netmon.emit.attributes import collective

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.capture.plain import PlainCalls, PlainEncoder
    from otel_netmon.delivery.packed import SpanFormat
    from otel_netmon.emit.attribute_sets import AttributeSet
    from otel_netmon.job.roles import RankIdentity

_SLOTS: Final = {
    str(semconv.COLLECTIVE_SEQUENCE): 0,
    str(semconv.COLLECTIVE_DEVICE_DURATION): 1,
    str(semconv.COLLECTIVE_DEVICE_BOUND): 1,  # there is one of them
    str(semconv.COLLECTIVE_ALGBW): 2,
    str(semconv.COLLECTIVE_BUSBW): 3,
}
"""Attributes that vary from span to span, in the order of the record."""
_MOST: Final = 512
"""Templates that are kept: sizes may vary without end."""


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


class Trace(NamedTuple):
    """What the spans of a list have in common. ``epoch`` makes a monotonic time one since 1970, in ns."""

    trace_id: int
    parent_id: int | None
    epoch: int
    now: int
    """Monotonic: the end of the spans of those that have not ended."""


class CollectiveEncoder:
    """Encodes spans of collectives in one format. Used by one thread."""

    def __init__(self, format: SpanFormat) -> None:
        self._format = format
        self._templates: tuple[dict[Any, Any], dict[Any, Any]] = {}, {}
        """Of spans below another, and of roots."""
        self._plain: PlainEncoder | None = None
        self._rank: RankIdentity | None = None
        """Who the templates in that say that this process is."""

    def encode(
        self, events: Sequence[CollectiveEvent], ids: Sequence[int], about: AttributeSet | None, of: Trace
    ) -> bytes:
        """The spans of ``events``, as a chunk. Some 1.6 µs each, and 12 for the first of its kind.

        ``about`` is that of all of them, or ``None`` for that of their kinds.
        """
        made = self._format
        text_of_id, times, integer, double = made.span_id, made.times, made.integer, made.double
        nothing = made.nothing
        templates, given, epoch = self._templates[of.parent_id is None], about, of.epoch
        before, after = made.around_id(of.trace_id, of.parent_id)
        parts: list[Any] = []
        for event, span_id in zip(events, ids, strict=True):
            kind, end, error, on_device = event.kind, event.end, event.error, event.device_duration
            about = given or kind.about
            sequence = nothing if event.sequence is None else integer(event.sequence)
            device = algbw = busbw = nothing
            timed: bool | None = None
            if on_device is not None:
                timed, device = True, double(on_device / 1e9)
            elif event.device_bound is not None:
                timed, device = False, double(event.device_bound / 1e9)
            if error is None and kind.size and (duration := event.duration):
                rate, on_bus = rates(kind.size, duration, about.factor if kind.is_even else None)
                algbw = double(rate)
                if on_bus is not None:
                    busbw = double(on_bus)
            state = None if end is None else event.is_late
            failure = None if error is None else (error, event.error_message)
            key = (kind, about, len(sequence), failure, state, timed, algbw is nothing)
            template = templates.get(key)
            if template is None:
                length = len(sequence) + len(device) + len(algbw) + len(busbw)
                if len(templates) >= _MOST:
                    templates.clear()
                template = self._template(event, about, length, is_root=of.parent_id is None)
                templates[key] = template
            opening, name, first, second, third, fourth, closing = template
            until = of.now if end is None else end
            parts += (
                *(opening, before, text_of_id(span_id), after, name, times(event.start + epoch, until + epoch)),
                *(first, sequence, second, device, third, algbw, fourth, busbw, closing),
            )
        return made.joined(parts)

    def encode_plain(self, parts: Sequence[tuple[PlainCalls, int, Trace]]) -> bytes:
        """The same of plain calls, that were taken at once; with the id of the first of each part, which the
        others follow. Some 0.3 µs each, and 20 for the first of its kind."""
        made = self._format
        kind = parts[0][0].kind
        rank = None if kind is None else kind.about.rank
        if self._plain is None or self._rank is not rank or not self._plain.kinds.is_current:
            self._plain, self._rank = parts[0][0].encoder(is_text=isinstance(made.nothing, str)), rank
        below = [
            Below(calls, first_id, *map(_bytes, made.around_id(of.trace_id, of.parent_id)))
            for calls, first_id, of in parts
        ]
        epoch, between = parts[0][2].epoch, _bytes(made.between_times)
        return self._plain.encode(below, epoch, between, len(made.between), self._plain_template)

    def _plain_template(self, event: CollectiveEvent) -> Template:
        made, about = self._format, event.kind.about
        factor = about.factor if event.kind.is_even else None
        length = len(made.integer(event.sequence or 0))
        if event.size:
            length += len(made.double(1.0)) * (1 if factor is None else 2)
        opening, name, first, second, third, fourth, closing = self._template(event, about, length, is_root=False)
        pieces = [opening, name, first, second + third, fourth, closing]
        return Template(-1.0 if factor is None else factor, [*map(_bytes, pieces)])

    def _template(
        self, event: CollectiveEvent, about: AttributeSet, length: int, *, is_root: bool
    ) -> tuple[Any, ...]:
        made = self._format
        attributes = [made.nothing] * 5
        text = separator = made.nothing
        for key, value in schema.attributes(collective(event, about)).items():
            slot = _SLOTS.get(key)
            if slot is None:
                text += separator + made.attribute(key, value)
            else:
                start, end = made.slot(key, value)
                attributes[slot] = text + separator + start
                text = end
            separator = made.between
        attributes[-1] = text
        return made.template(about.operation, attributes, length, is_root=is_root, error=event.error is not None)
