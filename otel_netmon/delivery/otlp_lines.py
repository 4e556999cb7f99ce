"""OTLP JSON lines, whoever wrote them, to the requests that they stand for: protobuf, as collectors take it by
gRPC and by HTTP. Some 6 MB of JSON a second."""

from __future__ import annotations

import base64
import importlib
import json
from collections.abc import Iterator
from functools import cache
from typing import Any, Final, NamedTuple

from otel_netmon.delivery.transport import SERVICES
from otel_netmon.sdk.values import Signal

_PARTS: Final[tuple[tuple[str, Signal, str, str], ...]] = (
    ("resourceSpans", "traces", "scopeSpans", "spans"),
    ("resourceMetrics", "metrics", "scopeMetrics", "metrics"),
    ("resourceLogs", "logs", "scopeLogs", "logRecords"),
)
_POINTS: Final = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")
_IDS: Final = ("traceId", "spanId", "parentSpanId")


class Message(NamedTuple):
    """A request for the service of ``signal``; several of them one behind the other are one request."""

    signal: Signal
    data: bytes
    items: int
    """Spans, data points or log records."""


class NotOtlp(ValueError):
    """The line is no JSON, or no message of OTLP."""


def messages(line: bytes) -> list[Message]:
    """Those of one line: one, as exporters write them. Raises :class:`NotOtlp`."""
    try:
        said = json.loads(line)
        return list(_messages(said))
    except NotOtlp:
        raise
    except Exception as error:  # noqa: BLE001  # a file can hold anything, and protobuf raises what it likes
        raise NotOtlp(type(error).__name__) from None


def _messages(said: Any) -> Iterator[Message]:
    from google.protobuf.json_format import ParseDict

    if not isinstance(said, dict) or not any(key in said for key, *_ in _PARTS):
        raise NotOtlp("no signal")
    for key, signal, scopes, items in _PARTS:
        if key not in said:
            continue
        count = 0
        for group in said[key]:
            for scope in group.get(scopes, ()):
                for item in scope.get(items, ()):
                    count += _points(item) if signal == "metrics" else _item(item)
        request = _request(signal)()
        ParseDict({key: said[key]}, request, ignore_unknown_fields=True)
        if count:
            yield Message(signal, request.SerializeToString(), count)


def _item(item: dict[str, Any]) -> int:
    """A span or log record, its ids as protobuf's JSON has bytes; OTLP's has them in hexadecimal."""
    _encode_ids(item)
    for link in item.get("links", ()):
        _encode_ids(link)
    return 1


def _points(metric: dict[str, Any]) -> int:
    count = 0
    for kind in _POINTS:
        for point in metric.get(kind, {}).get("dataPoints", ()):
            count += 1
            for exemplar in point.get("exemplars", ()):
                _encode_ids(exemplar)
    return count


def _encode_ids(item: dict[str, Any]) -> None:
    for name in _IDS:
        if name in item:
            item[name] = base64.b64encode(bytes.fromhex(item[name])).decode()


@cache
def _request(signal: Signal) -> Any:
    service = SERVICES[signal]
    module = importlib.import_module(f"opentelemetry.proto.collector.{service}.v1.{service}_service_pb2")
    return getattr(module, f"Export{service.capitalize()}ServiceRequest")
