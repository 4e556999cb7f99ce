"""OTLP's variables: destination and protocol of each signal, and values that can never work."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from otel_netmon.sdk.values import OTLP, PLACES, SIGNALS, Checked, Problem, Signal, is_pem
from otel_netmon.text import without_secrets

SERVED: Final = ("grpc", "http/protobuf")
"""The words of ``OTEL_EXPORTER_OTLP_PROTOCOL`` that the official exporters speak."""
_OTLP_EXPORTERS: Final = frozenset({"otlp", "otlp_proto_grpc", "otlp_proto_http", "otel_netmon_otlp"})
_OWN_PROTOCOL: Final = {"otlp_proto_grpc": "grpc", "otlp_proto_http": "http/protobuf"}
_GRPC_TARGETS: Final = ("unix:", "unix-abstract:", "dns:", "ipv4:", "ipv6:", "vsock:", "xds:")


def setting(environ: Mapping[str, str], signal: Signal, what: str) -> tuple[str, str]:
    """What ``environ`` sets for the OTLP exporter of a signal, and the variable; empty where none does."""
    for name in (f"{OTLP}{signal.upper()}_{what}", f"{OTLP}{what}"):
        if value := environ.get(name, "").strip():
            return value, name
    return "", f"{OTLP}{what}"


def endpoint(environ: Mapping[str, str], signal: Signal) -> tuple[str, str]:
    """The address to which a signal goes by OTLP, and its variable."""
    return setting(environ, signal, "ENDPOINT")


def protocol(environ: Mapping[str, str], signal: Signal) -> tuple[str, str]:
    """The protocol of a signal, in lower case, and its variable; gRPC where none is set.

    Then the variable is the one that goes with the endpoint's.
    """
    word, name = setting(environ, signal, "PROTOCOL")
    if word:
        return word.lower(), name
    return "grpc", endpoint(environ, signal)[1].replace("_ENDPOINT", "_PROTOCOL")


def unserved(variable: str, word: str) -> Problem:
    """A protocol that is not supported, and what is used instead."""
    what = f"={word[:64]!r} is not supported, only {' and '.join(SERVED)} are; using http/protobuf"
    return Problem(variable, what)


def is_used(exporters: Mapping[str, str], signal: Signal) -> bool:
    """Whether the exporters named for a signal send OTLP."""
    return not _OTLP_EXPORTERS.isdisjoint(exporters.get(f"OTEL_{signal.upper()}_EXPORTER", "").split(","))


def protocols(checked: Checked) -> None:
    """Protocols that are not supported, and what is accepted by the one exporter and not by the other."""
    for place, signals in PLACES.items():
        name = f"{OTLP}{place}PROTOCOL"
        if word := checked.environ.get(name, "").strip().lower():
            if word not in SERVED:
                checked.problems.append(unserved(name, word))
                word = "http/protobuf"
            checked.put(name, word)
        by_grpc = any(protocol(checked.environ, signal)[0] == "grpc" for signal in signals)
        for what in ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE"):
            name = f"{OTLP}{place}{what}"
            path = checked.environ.get(name)
            if path and not is_pem(path) and (by_grpc or not Path(path).is_dir()):
                checked.refuse(name, "is not a PEM file that can be read; ignoring it", None)
        name = f"{OTLP}{place}COMPRESSION"
        word = checked.environ.get(name, "").strip().lower()
        accepted = ("none", "gzip") if by_grpc else ("none", "gzip", "deflate")
        if word and word not in accepted:
            checked.refuse(name, f"is not one of {', '.join(accepted)}; using none", None)
        elif word == "none" and (not place or f"{OTLP}COMPRESSION" not in checked.environ):
            checked.put(name, None)  # the default; the official gRPC exporter knows no such word
        elif word:
            checked.put(name, word)


def pairs(checked: Checked) -> None:
    """Resource attributes, and headers: what the SDK would leave out, printing it, or could never send."""
    accepted = "name=value pairs, separated by commas"
    _keep_pairs(checked, "OTEL_RESOURCE_ATTRIBUTES", lambda part: "=" in part, accepted)
    for place in PLACES:
        _keep_pairs(checked, f"{OTLP}{place}HEADERS", _is_header, f"{accepted}, URL-encoded")


def _is_header(text: str) -> bool:
    value = unquote(text.partition("=")[2])
    return bool(_HEADER.fullmatch(text.strip())) and value.isascii() and value.isprintable()


_HEADER: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\s*=[^\",;\\]*")
"""As OpenTelemetry reads it, which prints what it refuses, secrets and all."""


def _keep_pairs(checked: Checked, name: str, accepts: Callable[[str], bool], accepted: str) -> None:
    if name not in checked.environ:
        return
    parts = [part for part in checked.environ[name].split(",") if part.strip()]
    good = [part for part in parts if accepts(part)]
    if len(good) < len(parts):
        checked.refuse(name, f"is not {accepted}; the rest is used", ",".join(good) or None)
    else:
        checked.put(name, ",".join(good) or None)


def endpoints(checked: Checked, instead: str) -> None:
    """Addresses to which nothing can ever be sent: ``instead`` is the exporter of their signals."""
    broken = []
    for signal in SIGNALS:
        value, name = endpoint(checked.environ, signal)
        word, variable = protocol(checked.environ, signal)
        if not value:
            continue
        checked.put(name, value)
        chosen = checked.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp").split(",")
        used = _OTLP_EXPORTERS.intersection(chosen)
        word = _OWN_PROTOCOL.get("".join(used), word)
        fault = _url_fault(value, word) if used else ""
        if not fault:
            continue
        broken.append(signal)
        if name not in [problem.variable for problem in checked.problems]:
            checked.refuse(name, f"cannot work with {word} ({variable}): {fault}", value, lost=True)
        left = [one for one in chosen if one not in _OTLP_EXPORTERS]
        nothing = "none" if broken == ["logs"] else instead  # a few events alone are no reason for a folder
        checked.put(f"OTEL_{signal.upper()}_EXPORTER", ",".join(left) or nothing)


def _url_fault(value: str, word: str) -> str:
    """Why an official exporter can never deliver to this endpoint; empty where it may."""
    port = 4317 if word == "grpc" else 4318
    if word == "grpc" and value.startswith(_GRPC_TARGETS):
        return ""
    has_scheme = "://" in value
    try:
        parts = urlsplit(value if has_scheme else f"//{value}")
        good = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good or any(c.isspace() for c in value):
        return f"it is not an address; write one like http://HOST:{port}"
    if word != "grpc" and not has_scheme:
        return f"it has no scheme; write http://{without_secrets(value)}, or https:// where the collector has TLS"
    if word != "grpc" and parts.scheme not in ("http", "https"):
        return f"{parts.scheme}:// is not supported; write one like http://HOST:{port}"
    return ""
