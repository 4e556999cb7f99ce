"""Spans as OTLP's JSON, written as text.

The official encoder makes some seventy objects of a span. Those of a batch, alive together, make Python's garbage
collector stop the training to look for cycles among them; and text is made in a fifth of the time, or, from
templates, in a thirtieth. Resource and scope are still encoded by it, once for each.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from json.encoder import encode_basestring_ascii
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.exporter.otlp.json.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_netmon.delivery.packed import Around, Attributes, Place, WholeSpan, like_those_of
from otel_netmon.records import Value
from otel_netmon.text import HERE, as_json

REMOTE: Final = 0x100 | 0x200
LOCAL: Final = 0x100
"""Flags of a span or link: what it points to, the parent for a span, is remote, or is not."""


_quoted: Final = functools.lru_cache(maxsize=256)(as_json)
"""The same for names."""


def double(value: float) -> str:
    """A float, with text for those that JSON has not."""
    if math.isfinite(value):
        return repr(value)
    return '"NaN"' if math.isnan(value) else '"Infinity"' if value > 0 else '"-Infinity"'


_VALUES: Final[Mapping[type, tuple[str, Callable[[Any], str], str]]] = {
    str: ('"stringValue":', encode_basestring_ascii, ""),
    bool: ('"boolValue":', {True: "true", False: "false"}.__getitem__, ""),
    int: ('"intValue":"', str, '"'),
    float: ('"doubleValue":', double, ""),
}
"""By type, what makes the text of a value, and what stands around it."""


@functools.lru_cache(maxsize=512)
def _slot(key: str, kind: Any) -> tuple[str, Callable[[Any], str], str]:
    """The same with what stands around an attribute."""
    before, text, after = _VALUES[kind]
    named = f'"key":{_quoted(key)},' if key else ""
    return f'{{{named}"value":{{{before}', text, after + "}}"


def attribute(key: str, value: Any) -> str | None:
    """A pair of key and value; ``None`` for a value that is none of ``Value``."""
    kind: Any = type(value)
    if kind not in _VALUES:
        return None
    before, text, after = _slot(key, kind)
    return before + text(value) + after


def opening(name: str, flags: int) -> str:
    """Of a span, from behind its ids to its times."""
    named = f'"name":{_quoted(name)},' if name else ""
    return f'","flags":{flags},{named}"kind":1,"startTimeUnixNano":"'


def closing(*, error: bool) -> str:
    """Behind the attributes, events and links of a span."""
    return '"status":{"code":2}}' if error else '"status":{}}'


def _listed(name: str, parts: Sequence[str]) -> str:
    """A field of a list; empty ones are left out."""
    return f'"{name}":[{",".join(parts)}],' if parts else ""


def listed_attributes(attributes: Attributes) -> str | None:
    """The field ``attributes``; ``None`` where one has a value that is none of ``Value``."""
    parts: list[Any] = [attribute(key, value) for key, value in attributes.items()]
    return None if None in parts else _listed("attributes", parts)


def _event(name: str, time: int, attributes: Attributes) -> str:
    about = listed_attributes(attributes) or ""
    return f'{{"timeUnixNano":"{time}",{about}"name":{_quoted(name)}}}'


def _link(link: trace.Link) -> str:
    about = link.context
    flags = REMOTE if about.is_remote else LOCAL
    return f'{{"traceId":"{about.trace_id:032x}","spanId":"{about.span_id:016x}","flags":{flags}}}'


class Json:
    """A ``SpanFormat``, for one exporter. A request is a line."""

    nothing = ""
    between = ","
    between_times = '","endTimeUnixNano":"'
    span_id = staticmethod("%016x".__mod__)
    integer = staticmethod(str)
    double = staticmethod(double)

    def __init__(self) -> None:
        self._around = Around(_around)

    def around_id(self, trace_id: int, parent_id: int | None) -> tuple[str, str]:
        return f'{trace_id:032x}","spanId":"', "" if parent_id is None else f'","parentSpanId":"{parent_id:016x}'

    def times(self, start: int, end: int) -> str:
        return f"{start}{self.between_times}{end}"

    @staticmethod
    @functools.lru_cache(maxsize=1024, typed=True)
    def attribute(key: str, value: Value) -> str | None:
        return attribute(key, value)

    def slot(self, key: str, value: Value) -> tuple[str, str]:
        kind: Any = type(value)
        before, _, after = _slot(key, kind)
        return before, after

    def template(
        self,
        name: str,
        attributes: Sequence[str],
        length: int,  # noqa: ARG002  # no lengths are written
        *,
        is_root: bool,
        error: bool,
    ) -> tuple[str, ...]:
        before = opening(name, LOCAL if is_root else REMOTE)
        first, *more = ('","attributes":[' + attributes[0], *attributes[1:])
        return ',{"traceId":"', before, first, *more[:-1], more[-1] + "]," + closing(error=error)

    def joined(self, parts: Iterable[str]) -> bytes:
        return "".join(parts)[1:].encode()

    def span(self, one: WholeSpan) -> bytes:
        flags = LOCAL if one.place.parent_id is None else REMOTE
        inside = listed_attributes(one.attributes) or ""
        inside += _listed("events", [_event(*each) for each in one.events])
        inside += _listed("links", [_link(each) for each in one.links])
        return self.whole(one.name, one.place, flags, inside, error=one.error).encode()

    def whole(self, name: str, place: Place, flags: int, inside: str, *, error: bool) -> str:
        """A span with these fields ``inside``."""
        trace_id, parent_id, span_id, start, end = place
        before, after = self.around_id(trace_id, parent_id)
        ids = f'{{"traceId":"{before}{span_id:016x}{after}'
        return f'{ids}{opening(name, flags)}{self.times(start, end)}",{inside}{closing(error=error)}'

    def request(self, resource: Resource, scope: InstrumentationScope | None, chunks: Sequence[bytes]) -> bytes:
        before, after = self._around.of(resource, scope)
        parts = [before]
        for chunk in chunks:
            parts += (chunk, b",")
        parts[-1] = after
        return b"".join(parts)  # all is copied once


def _around(resource: Resource, scope: InstrumentationScope | None) -> tuple[bytes, bytes]:
    """A line, before and after the spans."""
    encoded = encode_spans([like_those_of(resource, scope)]).to_dict()
    encoded["resourceSpans"][0]["scopeSpans"][0]["spans"] = [HERE]
    head, _, tail = as_json(encoded).encode().partition(as_json(HERE).encode())
    return head, tail + b"\n"
