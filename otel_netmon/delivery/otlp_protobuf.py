"""Spans as OTLP's protobuf, written without the classes of protobuf: the same bytes, in a thirtieth of the time.

Fields are in the order of their numbers, as the official encoder has them. Resource and scope are still encoded by
that, once for each.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Sequence
from typing import Final

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_netmon.delivery.packed import Around, Attributes, WholeSpan, like_those_of
from otel_netmon.records import Value

_ONE_BYTE: Final = [bytes((value,)) for value in range(128)]
_TAGS: Final = [bytes((number << 3 | 2,)) for number in range(16)]
"""Before fields that have a length, by their number."""
_LOCAL: Final = b"\x00\x01\x00\x00"
_REMOTE: Final = b"\x00\x03\x00\x00"
"""Flags of a span or link: what it points to, the parent for a span, is remote, or is not."""
_INTERNAL: Final = b"\x30\x01"
_UNSET: Final = b"\x7a\x00"
_ERROR: Final = b"\x7a\x02\x18\x02"
_START: Final = b"\x39"
_END: Final = b"\x41"

_pack_three: Final = struct.Struct("BBB").pack
_pack_times: Final = struct.Struct("<QcQ").pack
_pack_double: Final = struct.Struct("<d").pack
_pack_fixed: Final = struct.Struct("<Q").pack
_pack_id: Final = struct.Struct(">Q").pack


def varint(value: int) -> bytes:
    """``value`` of up to 64 bits; a negative one has ten bytes."""
    if 0 <= value < 1 << 21:  # quickly
        if value < 128:
            return _ONE_BYTE[value]
        if value < 1 << 14:
            return bytes((value & 127 | 128, value >> 7))
        return _pack_three(value & 127 | 128, value >> 7 & 127 | 128, value >> 14)
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def field(number: int, data: bytes) -> bytes:
    """A field that has a length: text, bytes or a message."""
    length = len(data)
    return _TAGS[number] + (_ONE_BYTE[length] if length < 128 else varint(length)) + data


@functools.lru_cache(maxsize=256)
def _key(key: str) -> bytes:
    return field(1, key.encode()) if key else b""


def _value(value: Value) -> bytes:
    """An ``AnyValue``."""
    if isinstance(value, str):
        return field(1, value.encode())
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int):
        return b"\x18" + varint(value)
    return b"\x21" + _pack_double(value)


@functools.lru_cache(maxsize=256)
def _before_value(key: str, tag: bytes, length: int) -> bytes:
    """The beginning of an attribute, to the tag of a value that has ``length`` bytes."""
    inside = _key(key) + b"\x12" + varint(1 + length) + tag
    return _TAGS[9] + varint(len(inside) + length) + inside


def _all(number: int, attributes: Attributes) -> bytes:
    return b"".join([field(number, _key(key) + field(2, _value(value))) for key, value in attributes.items()])


def _event(name: str, time: int, attributes: Attributes) -> bytes:
    return b"\x09" + _pack_fixed(time) + field(2, name.encode()) + _all(3, attributes)


def _link(link: trace.Link) -> bytes:
    about = link.context
    ids = field(1, about.trace_id.to_bytes(16, "big")) + field(2, _pack_id(about.span_id))
    return ids + b"\x35" + (_REMOTE if about.is_remote else _LOCAL)


def _after(*, is_root: bool, error: bool) -> bytes:
    """Status and flags."""
    return (_ERROR if error else _UNSET) + b"\x85\x01" + (_LOCAL if is_root else _REMOTE)


class Protobuf:
    """A ``SpanFormat``, for one exporter."""

    nothing = between = b""
    between_times = _END
    span_id = staticmethod(_pack_id)
    integer = staticmethod(varint)
    double = staticmethod(_pack_double)

    def __init__(self) -> None:
        self._around = Around(_around)

    def around_id(self, trace_id: int, parent_id: int | None) -> tuple[bytes, bytes]:
        after = b"" if parent_id is None else b"\x22\x08" + _pack_id(parent_id)
        return trace_id.to_bytes(16, "big") + b"\x12\x08", after

    def times(self, start: int, end: int) -> bytes:
        return _pack_times(start, _END, end)

    @staticmethod
    @functools.lru_cache(maxsize=1024, typed=True)
    def attribute(key: str, value: Value) -> bytes:
        return field(9, _key(key) + field(2, _value(value)))

    def slot(self, key: str, value: Value) -> tuple[bytes, bytes]:
        text = _value(value)
        return _before_value(key, text[:1], len(text) - 1), b""

    def template(
        self, name: str, attributes: Sequence[bytes], length: int, *, is_root: bool, error: bool
    ) -> tuple[bytes, ...]:
        before = (field(5, name.encode()) if name else b"") + _INTERNAL + _START
        after = _after(is_root=is_root, error=error)
        ids = 18 + 10 + (0 if is_root else 10)
        whole = ids + len(before) + 17 + sum(map(len, attributes)) + length + len(after)
        return b"\x12" + varint(whole) + b"\x0a\x10", before, *attributes[:-1], attributes[-1] + after

    def joined(self, parts: Iterable[bytes]) -> bytes:
        return b"".join(parts)

    def span(self, one: WholeSpan) -> bytes:
        trace_id, parent_id, span_id, start, end = one.place
        before, after = self.around_id(trace_id, parent_id)
        inside = _all(9, one.attributes)
        inside += b"".join([field(11, _event(*each)) for each in one.events])
        inside += b"".join([field(13, _link(each)) for each in one.links])
        is_root = parent_id is None
        opening, named, closing = self.template(one.name, [inside], 0, is_root=is_root, error=one.error)
        parts = (opening, before, _pack_id(span_id), after, named, self.times(start, end), closing)
        return b"".join(parts)

    def request(self, resource: Resource, scope: InstrumentationScope | None, chunks: Sequence[bytes]) -> bytes:
        of_resource, of_scope, scope_url, resource_url = self._around.of(resource, scope)
        length = len(of_scope) + sum(map(len, chunks)) + len(scope_url)
        scoped = b"\x12" + varint(length)
        length += len(of_resource) + len(scoped) + len(resource_url)
        opening = b"\x0a" + varint(length)
        return b"".join((opening, of_resource, scoped, of_scope, *chunks, scope_url, resource_url))


def _around(resource: Resource, scope: InstrumentationScope | None) -> tuple[bytes, bytes, bytes, bytes]:
    """Fields of a request's messages: resource and scope, and the URLs of scope and resource."""
    (of_resource,) = encode_spans([like_those_of(resource, scope)]).resource_spans
    (of_scope,) = of_resource.scope_spans
    return (
        field(1, of_resource.resource.SerializeToString()),
        field(1, of_scope.scope.SerializeToString()),
        field(3, of_scope.schema_url.encode()) if of_scope.schema_url else b"",
        field(3, of_resource.schema_url.encode()) if of_resource.schema_url else b"",
    )
