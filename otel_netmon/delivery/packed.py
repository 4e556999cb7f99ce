"""Encoded spans on their way through the SDK's processors, and how they become requests.

A processor's queue holds objects. A span that is encoded when it is made needs none of its own: those of a round
are one object in the queue, and the garbage collector sees one, while delay, flush and shutdown stay the SDK's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_netmon.records import Value

MOST_BYTES: Final = 1 << 20
"""Of the spans in one request. By default a collector refuses more than 4 MiB by gRPC, and its receiver of OTLP
JSON files cuts lines after 1 MiB."""

_SAMPLED: Final = trace.SpanContext(1, 1, False, trace.TraceFlags(trace.TraceFlags.SAMPLED))

Attributes = Mapping[str, Value]


class Place(NamedTuple):
    """Where a span stands: ids, and nanoseconds since the epoch. ``span_id`` 0 is a random one."""

    trace_id: int
    parent_id: int | None
    span_id: int
    start: int
    end: int


class WholeSpan(NamedTuple):
    """A span that no template is made for. Of an event: its name, time and attributes."""

    name: str
    place: Place
    attributes: Attributes
    error: bool = False
    links: Sequence[trace.Link] = ()
    events: Sequence[tuple[str, int, Attributes]] = ()


class SpanFormat(Protocol):
    """OTLP's protobuf or its JSON: the parts of a span as text, here called so for bytes as well.

    What is the same in many spans is made once (``template``), and what varies is put between.
    """

    nothing: Any
    """Empty text."""
    between: Any
    """What stands between two attributes."""
    between_times: Any
    """What stands between the two of ``times``."""

    def around_id(self, trace_id: int, parent_id: int | None) -> tuple[Any, Any]:
        """What comes before and after a span's id. Parents are remote: they are made by other ranks too."""

    def span_id(self, span_id: int) -> Any: ...
    def times(self, start: int, end: int) -> Any: ...
    def integer(self, value: int) -> Any: ...
    def double(self, value: float) -> Any: ...

    def attribute(self, key: str, value: Value) -> Any:
        """One that many spans have: kept, for some that were used last."""

    def slot(self, key: str, value: Value) -> tuple[Any, Any]:
        """What comes before and after the value of an attribute: the same for each of this type and length."""

    def template(
        self, name: str, attributes: Sequence[Any], length: int, *, is_root: bool, error: bool
    ) -> tuple[Any, ...]:
        """What comes before the id, before the times, and after them: ``attributes``, the texts between which
        values are put, that are ``length`` long together."""

    def joined(self, parts: Iterable[Any]) -> bytes:
        """Spans of a chunk."""

    def span(self, one: WholeSpan) -> bytes:
        """A whole one, as a chunk."""

    def request(
        self, resource: Resource, scope: InstrumentationScope | None, chunks: Sequence[bytes]
    ) -> bytes: ...


def like_those_of(resource: Resource, scope: InstrumentationScope | None) -> ReadableSpan:
    """A span of the SDK's, for the official encoder to show what it makes of its resource and scope."""
    return ReadableSpan("", trace.SpanContext(1, 1, False), None, resource, instrumentation_scope=scope)


Parts = TypeVar("Parts")


class Around(Generic[Parts]):
    """What ``make`` gives of a resource and a scope; for those of the last request it is kept."""

    def __init__(self, make: Callable[[Resource, InstrumentationScope | None], Parts]) -> None:
        self._make = make
        self._last: tuple[Resource, InstrumentationScope | None, Parts] | None = None

    def of(self, resource: Resource, scope: InstrumentationScope | None) -> Parts:
        last = self._last
        if last is None or last[0] is not resource or last[1] is not scope:
            last = self._last = resource, scope, self._make(resource, scope)
        return last[2]


class TakesPacked:
    """An exporter that takes ``PackedSpans`` too, if they are in its ``format``."""

    format: SpanFormat | None = None
    is_local = False
    """Whether a batch costs next to nothing: then spans need not wait for others."""


class PackedSpans:
    """``count`` spans of one resource and scope in one format; ``context`` is all that a processor reads."""

    context = _SAMPLED

    def __init__(self, resource: Resource, scope: InstrumentationScope | None, most: int) -> None:
        self.resource = resource
        self.scope = scope
        self.most = most
        """Spans in a request."""
        self.count = 0
        self.counts: list[int] = []
        self.chunks: list[bytes] = []

    def add(self, count: int, chunk: bytes) -> None:
        self.count += count
        self.counts.append(count)
        self.chunks.append(chunk)


class Request(NamedTuple):
    """What is sent at once."""

    resource: Resource
    scope: InstrumentationScope | None
    chunks: list[bytes]
    items: int


def requests(packs: Iterable[PackedSpans]) -> Iterator[Request]:
    """What ``packs`` hold, in order, in as few requests as their limits allow; a chunk is never divided."""
    last: Request | None = None
    size = 0
    for pack in packs:
        for count, chunk in zip(pack.counts, pack.chunks, strict=True):
            if (
                last is None
                or last.resource is not pack.resource
                or last.scope is not pack.scope
                or last.items + count > pack.most
                or size + len(chunk) > MOST_BYTES
            ):
                if last is not None:
                    yield last
                last, size = Request(pack.resource, pack.scope, [], 0), 0
            last.chunks.append(chunk)
            last = last._replace(items=last.items + count)
            size += len(chunk)
    if last is not None:
        yield last
