"""What a run wrote, as records: the way in which tests read it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from opentelemetry.exporter.otlp.json.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from otel_netmon import schema
from otel_netmon.records import Source
from otel_netmon.schema import Record
from otel_netmon.store.decoder import Decoder
from otel_netmon.store.problems import Problems
from otel_netmon.store.reader import Known, read

Kind = TypeVar("Kind", bound=Known)


def wrote(folder: Path, kind: type[Kind], files: str = "*.jsonl") -> list[tuple[str, Kind]]:
    """All records of a kind in ``files`` of ``folder``, each with its file's name. Nothing may be damaged."""
    problems = Problems()
    paths = sorted(folder.glob(files))
    found: list[tuple[str, Any]] = [
        (path.name, one) for path in paths for one in read(path, problems) if isinstance(one, kind)
    ]
    assert problems == Problems(unknown=problems.unknown)
    return found


def source_of(record: Known) -> Source:
    """The process that it comes from, which is always told."""
    assert record.source is not None
    return record.source


def read_from(cls: type[Record], attributes: Mapping[str, Any], **own: Any) -> tuple[Record | None, int]:
    """The record that the SDK's ``attributes`` make with its ``own`` fields, and how many had a wrong type."""
    span = ReadableSpan("x", context=SpanContext(1, 1, is_remote=False), attributes=attributes)
    span._start_time = span._end_time = 1
    (group,) = encode_spans([span]).to_dict()["resourceSpans"]
    pairs = group["scopeSpans"][0]["spans"][0].get("attributes")
    table, problems = list(schema.ATTRIBUTES[cls]), Problems()
    first = cls._fields.index(table[0])
    values = [{**cls._field_defaults, **own}.get(name) for name in cls._fields]
    head, tail = tuple(values[:first]), tuple(values[first + len(table) :])
    return Decoder(cls)(pairs, problems, tail, head), problems.records
