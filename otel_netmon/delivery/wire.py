"""One attempt to hand a request to a collector, through the official OTLP exporters' own connections.

They read every ``OTEL_EXPORTER_OTLP_*`` variable, TLS, headers, compression and proxies included. What is used of
them here lies below their public surface: to send a request that is encoded already, and to see the answer.
"""

from __future__ import annotations

import importlib
import logging
import os
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from otel_netmon.sdk import otlp
from otel_netmon.sdk.values import Signal

__all__ = ["Outcome", "Signal", "Unsupported", "Wire", "official", "protocol"]

_logger = logging.getLogger(__name__)

_HTTP_RETRY: Final = frozenset((429, 502, 503, 504))
_GRPC_RETRY: Final = frozenset(
    ("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS")
)
_METHODS: Final = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "metrics": "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
_OFFICIAL: Final = {
    "traces": ("trace_exporter", "OTLPSpanExporter"),
    "metrics": ("metric_exporter", "OTLPMetricExporter"),
    "logs": ("_log_exporter", "OTLPLogExporter"),
}
_PARTIAL: Final = {"traces": "rejected_spans", "metrics": "rejected_data_points", "logs": "rejected_log_records"}


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt.

    ``delivered``: taken, but for ``rejected`` items. ``rejected`` as a kind: never to be sent again. ``retry``:
    not now; not before ``after`` seconds where the collector said so. ``reason`` is a word or a status, no text of
    theirs; ``hint`` is what in the settings is at odds with such an answer, where that can be told.
    """

    kind: Literal["delivered", "rejected", "retry"]
    reason: str = ""
    after: float | None = None
    rejected: int = 0
    hint: str = ""


class Unsupported(Exception):
    """The official exporters at hand are made otherwise."""


def protocol(signal: Signal) -> str:
    """``grpc`` or ``http/protobuf``, as the standard variables say; gRPC where they say nothing.

    A word that is not served is said once, and HTTP is spoken: the specification's default.
    """
    word, variable = otlp.protocol(os.environ, signal)
    if word in otlp.SERVED:
        return word
    if (variable, word) not in _said:
        _said.add((variable, word))
        _logger.warning("otel-netmon: %s", otlp.unserved(variable, word).sentence)
    return "http/protobuf"


_said: Final[set[tuple[str, str]]] = set()


def _variable(signal: Signal, name: str) -> str:
    own = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}", "").strip().lower()
    return own or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}", "").strip().lower()


def official(signal: Signal, **arguments: Any) -> Any:
    """The official exporter of a signal for the protocol that the variables choose."""
    http = protocol(signal) == "http/protobuf"
    module, name = _OFFICIAL[signal]
    made: Any = getattr(
        importlib.import_module(f"opentelemetry.exporter.otlp.proto.{'http' if http else 'grpc'}.{module}"), name
    )
    if not http and _variable(signal, "COMPRESSION") == "none":
        import grpc

        # the specification's word for it, which this exporter refuses, with all telemetry lost
        arguments.setdefault("compression", grpc.Compression.NoCompression)
    return made(**arguments)


class Wire:
    """Attempts over the connection of an official ``exporter``. Used by one thread at a time.

    Raises ``Unsupported`` where that is made in a way that is not known here.
    """

    def __init__(self, exporter: Any, signal: Signal) -> None:
        self._exporter = exporter
        self._signal = signal
        self._http = getattr(exporter, "_client", None) if hasattr(exporter, "_compression") else None
        if self._http is not None and hasattr(self._http, "_submit") and hasattr(self._http, "_compress"):
            self.endpoint = str(self._http._endpoint)
            self.timeout = float(self._http._timeout)
        elif hasattr(exporter, "_channel") and hasattr(exporter, "_initialize_channel_and_stub"):
            self._http = None
            self.endpoint = str(exporter._endpoint)
            self.timeout = float(exporter._timeout)
            self._headers = exporter._headers or None
        else:
            raise Unsupported(f"{type(exporter).__module__}.{type(exporter).__qualname__}")

    def send(self, data: bytes, timeout: float) -> Outcome:
        """Try once, for ``timeout`` seconds at most. Never raises."""
        try:
            return self._by_http(data, timeout) if self._http is not None else self._by_grpc(data, timeout)
        except Exception as error:  # noqa: BLE001  # whatever breaks in there: the data is kept
            return _failed(type(error).__name__, repr(error), self._http is not None)

    def close(self) -> None:
        """Give the connection back."""
        self._exporter.shutdown()

    def _by_http(self, data: bytes, timeout: float) -> Outcome:
        assert self._http is not None
        result = self._http._submit(self._http._compress(data), timeout)
        status = result.status_code
        if status is None:
            name = type(result.error).__name__ if result.error else "no answer"
            return _failed(name, repr(result.error), by_http=True)
        if 200 <= status < 300:
            page = str(result.headers().get("content-type", "")).startswith("text/html")
            return replace(self._partial(_content(result)), hint=_PAGE if page else "")
        if status in _HTTP_RETRY:
            return Outcome("retry", f"HTTP {status}", _retry_after(result))
        return Outcome(
            "rejected", f"HTTP {status}", hint=_hint(f"HTTP {status} {_content(result)!r}", by_http=True)
        )

    def _by_grpc(self, data: bytes, timeout: float) -> Outcome:
        import grpc

        export = self._exporter._channel.unary_unary(_METHODS[self._signal])  # bytes in, bytes out
        try:
            return self._partial(export(data, metadata=self._headers, timeout=timeout))
        except grpc.RpcError as error:
            code = error.code().name
            after = _retry_info(error)
            if code == "UNAVAILABLE":
                # a channel backs off for minutes where nobody listened for a while; a new one tries at once
                self._exporter._channel.close()
                self._exporter._initialize_channel_and_stub()
            if code in _GRPC_RETRY or (code == "RESOURCE_EXHAUSTED" and after is not None):
                return _failed(code, error.details() or "", by_http=False, after=after)
            return Outcome("rejected", code, hint=_hint(code, by_http=False))

    def _partial(self, body: bytes) -> Outcome:
        """What a collector that took a request says of the parts that it did not take."""
        rejected = 0
        if body:
            response = _response(self._signal)
            try:
                response.ParseFromString(body)
                rejected = max(0, int(getattr(response.partial_success, _PARTIAL[self._signal])))
            except Exception:  # noqa: BLE001  # an answer that is no OTLP: it was taken, by whatever that is
                rejected = 0
        return Outcome("delivered", rejected=rejected)


def _failed(reason: str, text: str, by_http: bool, after: float | None = None) -> Outcome:
    """An attempt without an answer: to be made again, but where no such request can ever be sent."""
    hint = _hint(text, by_http=by_http)
    if any(word in text for word in _NEVER):
        return Outcome("rejected", reason, hint=hint)
    return Outcome("retry", f"{reason}: {hint}" if hint else reason, after, hint=hint)


_NEVER: Final = ("InvalidSchema(", "MissingSchema(", "InvalidURL(", "InvalidHeader(", "metadata was invalid")

IS_HTTP: Final = "HTTP is spoken there, not gRPC; set OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"
NO_HTTP: Final = "no HTTP is spoken there; if it is a port for gRPC set OTEL_EXPORTER_OTLP_PROTOCOL=grpc"
PLAIN: Final = "no TLS is spoken there; let OTEL_EXPORTER_OTLP_ENDPOINT begin with http://"
TLS: Final = "TLS is spoken there; let OTEL_EXPORTER_OTLP_ENDPOINT begin with https://"
_BASE: Final = "no such path there; OTEL_EXPORTER_OTLP_ENDPOINT is a base, and /v1/traces and the like are added"
_CLOSED: Final = "it hung up; if TLS is spoken there, let OTEL_EXPORTER_OTLP_ENDPOINT begin with https://"
_PAGE: Final = "an HTML page came back: that is no collector; correct OTEL_EXPORTER_OTLP_ENDPOINT"
_LOGIN: Final = "not allowed in; look at OTEL_EXPORTER_OTLP_HEADERS"
_TRUST: Final = "its certificate is not trusted; name its issuer's in OTEL_EXPORTER_OTLP_CERTIFICATE"
_NAME: Final = "no host has this name; correct OTEL_EXPORTER_OTLP_ENDPOINT"
_SLOW: Final = "no answer came in time; is it OTLP that is spoken there, and does no firewall keep it?"
_BOTH: Final = (
    ("WRONG_VERSION_NUMBER", PLAIN),
    ("CERTIFICATE_VERIFY_FAILED", _TRUST),
    ("refused", "nobody listens there; start the collector, or correct OTEL_EXPORTER_OTLP_ENDPOINT"),
    ("Failed to resolve", _NAME),
    ("Domain name not found", _NAME),
    ("Deadline Exceeded", _SLOW),
    ("timed out", _SLOW),
)
_HINTS: Final = {
    "grpc": (
        ("Failed parsing HTTP/2", IS_HTTP),
        ("Socket closed", _CLOSED),
        ("UNIMPLEMENTED", "it takes nothing of this signal by gRPC"),
        ("UNAUTHENTICATED", _LOGIN),
        ("PERMISSION_DENIED", _LOGIN),
    ),
    "http": (
        ("Schema(", "the address has no scheme; let OTEL_EXPORTER_OTLP_ENDPOINT begin with http://"),
        ("HTTPS server", TLS),
        ("HTTP 404", _BASE),
        ("HTTP 401", _LOGIN),
        ("HTTP 403", _LOGIN),
        *((word, NO_HTTP) for word in ("Connection aborted", "BadStatusLine", "reset by peer")),
    ),
}


def in_words_of(hint: str, variable: str, protocol_variable: str) -> str:
    """``hint`` with the names of the variables that are set."""
    named = hint.replace("OTEL_EXPORTER_OTLP_ENDPOINT", variable)
    return named.replace("OTEL_EXPORTER_OTLP_PROTOCOL", protocol_variable)


def _hint(text: str, *, by_http: bool) -> str:
    """What in the settings is at odds with ``text``, in words of ours."""
    found = (hint for word, hint in (*_BOTH, *_HINTS["http" if by_http else "grpc"]) if word in text)
    return next(found, "")


def _response(signal: Signal) -> Any:
    if signal == "traces":
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

        return ExportTraceServiceResponse()
    if signal == "metrics":
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

        return ExportMetricsServiceResponse()
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

    return ExportLogsServiceResponse()


def _content(result: Any) -> bytes:
    try:
        return bytes(result.content())[: 1 << 16]
    except Exception:  # noqa: BLE001  # a body cut short: the status says that it was taken
        return b""


def _retry_after(result: Any) -> float | None:
    from opentelemetry.exporter.otlp.common import http

    found: float | None = http._extract_retry_after(result)
    return found


def _retry_info(error: Any) -> float | None:
    from google.rpc.error_details_pb2 import RetryInfo

    try:
        raw = dict(error.trailing_metadata() or ()).get("google.rpc.retryinfo-bin")
        if raw is None:
            return None
        info = RetryInfo()
        info.ParseFromString(raw)
        return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
    except Exception:  # noqa: BLE001  # metadata that nobody can read says nothing
        return None
