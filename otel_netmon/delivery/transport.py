"""One attempt to hand a request to a collector, and what became of it, as OTLP's specification has it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Final, Literal

from otel_netmon.sdk.values import Signal

SERVICES: Final = {"traces": "trace", "metrics": "metrics", "logs": "logs"}
_REJECTED: Final = {"traces": "rejected_spans", "metrics": "rejected_data_points", "logs": "rejected_log_records"}
_NEVER: Final = ("InvalidSchema(", "MissingSchema(", "InvalidURL(", "InvalidHeader(", "metadata was invalid")
"""Errors of a request that can never be sent."""


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt.

    ``delivered``: taken, but for ``rejected`` items. ``rejected`` as a kind: never to be sent again. ``retry``:
    not now; not before ``after`` seconds where the collector asked for that. ``reason`` is a word or a status, no
    text from outside; ``hint`` is what the user can do about it, where that is known.
    """

    kind: Literal["delivered", "rejected", "retry"]
    reason: str = ""
    after: float | None = None
    rejected: int = 0
    hint: str = ""


class Transport:
    """A connection over which requests of one signal are handed over. Used by one thread at a time."""

    _by_http = False

    def __init__(self, signal: Signal, endpoint: str, timeout: float) -> None:
        self._signal = signal
        self.endpoint = endpoint
        self.timeout = timeout
        """Seconds of an attempt, as the settings say."""

    def send(self, data: bytes, timeout: float) -> Outcome:
        """Try for ``timeout`` seconds at most. Never raises."""
        try:
            return self._attempt(data, timeout)
        except Exception as error:  # noqa: BLE001  # whatever breaks in there: the data is kept
            return self._failed(type(error).__name__, repr(error))

    def _attempt(self, data: bytes, timeout: float) -> Outcome:
        raise NotImplementedError

    def close(self) -> None:
        """Give the connection back."""

    def _failed(self, reason: str, text: str, after: float | None = None) -> Outcome:
        """No answer, but the error ``text``: to be tried again, unless it can never be sent."""
        found = _hint(text, by_http=self._by_http)
        if any(word in text for word in _NEVER):
            return Outcome("rejected", reason, hint=found)
        return Outcome("retry", f"{reason}: {found}" if found else reason, after, hint=found)

    def _rejected(self, reason: str, text: str = "") -> Outcome:
        """Never to be sent again."""
        return Outcome("rejected", reason, hint=_hint(f"{reason} {text}", by_http=self._by_http))

    def _accepted(self, body: bytes, hint: str = "") -> Outcome:
        """Taken, but for the items that ``body``, the collector's answer, rejects."""
        try:
            service = SERVICES[self._signal]
            module = importlib.import_module(f"opentelemetry.proto.collector.{service}.v1.{service}_service_pb2")
            response: Any = getattr(module, f"Export{service.capitalize()}ServiceResponse").FromString(body)
            rejected = max(0, int(getattr(response.partial_success, _REJECTED[self._signal])))
        except Exception:  # noqa: BLE001  # an answer that is no OTLP: it was taken, by whatever that is
            rejected = 0
        return Outcome("delivered", rejected=rejected, hint=hint)


_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
_PROTOCOL: Final = "OTEL_EXPORTER_OTLP_PROTOCOL"

IS_HTTP: Final = f"it speaks HTTP, not gRPC; set {_PROTOCOL}=http/protobuf"
NO_HTTP: Final = f"it does not speak HTTP; if it is a port for gRPC, set {_PROTOCOL}=grpc"
PLAIN: Final = f"it does not speak TLS; let {_ENDPOINT} begin with http://"
TLS: Final = f"it speaks TLS; let {_ENDPOINT} begin with https://"
PAGE: Final = f"it answered with an HTML page, so it is no collector; correct {_ENDPOINT}"
_LOGIN: Final = "access denied; check OTEL_EXPORTER_OTLP_HEADERS"
_NAME: Final = f"no host has this name; correct {_ENDPOINT}"
_SLOW: Final = "no answer in time; check that it speaks OTLP, and that no firewall is in the way"
_BOTH: Final = (
    ("WRONG_VERSION_NUMBER", PLAIN),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted; set OTEL_EXPORTER_OTLP_CERTIFICATE"),
    ("refused", f"nothing listens there; start the collector, or correct {_ENDPOINT}"),
    ("Failed to resolve", _NAME),
    ("Domain name not found", _NAME),
    ("Deadline Exceeded", _SLOW),
    ("timed out", _SLOW),
)
_GRPC: Final = (
    ("Failed parsing HTTP/2", IS_HTTP),
    ("Socket closed", f"it hung up; if it speaks TLS, let {_ENDPOINT} begin with https://"),
    ("UNIMPLEMENTED", "it does not take this signal by gRPC"),
    ("UNAUTHENTICATED", _LOGIN),
    ("PERMISSION_DENIED", _LOGIN),
)
_HTTP: Final = (
    ("Schema(", f"the address has no scheme; let {_ENDPOINT} begin with http://"),
    ("HTTPS server", TLS),
    ("HTTP 404", f"no such path; {_ENDPOINT} is a base URL, to which /v1/traces and the like are appended"),
    ("HTTP 401", _LOGIN),
    ("HTTP 403", _LOGIN),
    *((word, NO_HTTP) for word in ("Connection aborted", "BadStatusLine", "reset by peer")),
)


def _hint(text: str, *, by_http: bool) -> str:
    """What the user can do about ``text``, an error or a status; empty where it is unknown."""
    return next((found for word, found in (*_BOTH, *(_HTTP if by_http else _GRPC)) if word in text), "")


def naming(found: str, endpoint_variable: str, protocol_variable: str) -> str:
    """A hint with the names of the variables that are set."""
    return found.replace(_ENDPOINT, endpoint_variable).replace(_PROTOCOL, protocol_variable)
