"""Packed spans on their way out: none lost, none twice, in order, in requests of a bounded size."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import SpanExportResult

from otel_netmon.delivery import packed
from otel_netmon.delivery.base import SpansTo
from otel_netmon.delivery.otlp_protobuf import Protobuf
from otel_netmon.delivery.packed import PackedSpans, Place, WholeSpan, requests
from tests.unit.official import RESOURCE, SCOPE, Kept, as_protobuf, finished

FORMAT = Protobuf()


def pack(*names: str, most: int = 100, resource: Resource = RESOURCE) -> PackedSpans:
    made = PackedSpans(resource, SCOPE, most)
    for name in names:
        place = Place(1, 2, 3, 4, 5)
        made.add(1, FORMAT.span(WholeSpan(name, place, {})))
    return made


def one(name: str) -> Any:
    return finished(name, Place(1, 2, 3, 4, 5), {})


def test_packed_spans_and_others_come_out_in_order() -> None:
    sink = Kept()
    exporter = SpansTo(sink, as_protobuf, FORMAT)
    batch = [one("a"), one("b"), pack("c", "d"), pack("e"), one("f"), pack("g")]
    assert exporter.export(batch) is SpanExportResult.SUCCESS
    assert sink.items == [2, 3, 1, 1]
    assert [span.name for span in sink.spans] == list("abcdefg")


def test_a_request_has_at_most_so_many_spans() -> None:
    found = list(requests([pack("a", "b", most=2), pack("c", "d", "e", most=2), pack("f", most=2)]))
    assert [each.items for each in found] == [2, 2, 2]
    assert sum(len(each.chunks) for each in found) == 6


def test_a_request_has_at_most_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MOST_BYTES", 3 * len(pack("a").chunks[0]))
    found = list(requests([pack("a", "b"), pack("c", "d", "a" * 999, "e")]))
    assert [each.items for each in found] == [3, 1, 1, 1], "what is larger than that goes alone"


def test_a_request_has_one_resource() -> None:
    other = Resource({"service.name": "another"})
    found = list(requests([pack("a"), pack("b", resource=other), pack("c", resource=other), pack("d")]))
    assert [(each.resource is other, each.items) for each in found] == [(False, 1), (True, 2), (False, 1)]
    assert [FORMAT.request(each.resource, SCOPE, []) for each in found][1] != FORMAT.request(RESOURCE, SCOPE, [])


def test_a_request_that_is_lost_is_a_failure() -> None:
    class Full(Kept):
        def put(self, data: bytes, items: int) -> bool:
            return super().put(data, items) and len(self.items) < 2

    sink = Full()
    assert SpansTo(sink, as_protobuf, FORMAT).export([pack("a", "b", most=1)]) is SpanExportResult.FAILURE
    assert sink.items == [1, 1]


def test_what_is_lost_is_a_failure_and_the_rest_is_tried() -> None:
    sink = Kept(takes=False)
    exporter = SpansTo(sink, as_protobuf, FORMAT)
    assert exporter.export([one("a"), pack("b"), one("c")]) is SpanExportResult.FAILURE
    assert [span.name for span in sink.spans] == ["a", "b", "c"]
