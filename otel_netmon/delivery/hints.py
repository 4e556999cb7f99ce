"""What in the settings is at odds with an answer, or with none, and what the user can do about it."""

from __future__ import annotations

from typing import Final

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


def hint(text: str, *, by_http: bool) -> str:
    """What the user can do about ``text``, an error or a status; empty where that cannot be told."""
    return next((found for word, found in (*_BOTH, *(_HTTP if by_http else _GRPC)) if word in text), "")


def naming(found: str, endpoint_variable: str, protocol_variable: str) -> str:
    """A hint with the names of the variables that are set."""
    return found.replace(_ENDPOINT, endpoint_variable).replace(_PROTOCOL, protocol_variable)
