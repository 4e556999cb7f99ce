"""Which protocol an endpoint speaks, asked before the command starts: a wrong protocol is no outage.

By two small requests of our own, in a second at most and without a library: gRPC's threads must not be there when
``process`` blocks signals. Neither is an export. `otel-netmon doctor` makes one.
"""

from __future__ import annotations

import signal as signals
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from otel_netmon.delivery import transport
from otel_netmon.sdk import otlp
from otel_netmon.sdk.values import OTLP, SIGNALS, Signal
from otel_netmon.text import without_secrets

SECONDS: Final = 1.0
_HTTP1: Final = b"OPTIONS / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_HTTP2: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
_PROXIES: Final = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy")


def at_odds(environ: Mapping[str, str], exporters: Mapping[str, str]) -> tuple[str, ...]:
    """A sentence for each endpoint that speaks another protocol; none for one that does not answer."""
    if any(environ.get(name) or environ.get(name.upper()) for name in _PROXIES):
        return ()
    found: list[str] = []
    # It is left behind when the time is up. With all signals blocked: they are the main thread's.
    before = signals.pthread_sigmask(signals.SIG_BLOCK, signals.valid_signals())
    try:
        thread = threading.Thread(target=_look, args=(environ, exporters, found), daemon=True)
        thread.start()
    except RuntimeError:
        return ()
    finally:
        signals.pthread_sigmask(signals.SIG_SETMASK, before)
    thread.join(SECONDS)
    return tuple(dict.fromkeys(found))


def _look(environ: Mapping[str, str], exporters: Mapping[str, str], found: list[str]) -> None:
    spoken: dict[str, frozenset[str]] = {}
    for signal in SIGNALS:
        address, variable = otlp.endpoint(environ, signal)
        if not address or not otlp.is_used(exporters, signal):
            continue
        with suppress(ValueError, OSError):
            if address not in spoken:
                spoken[address] = _spoken(address)
            word, named = otlp.protocol(environ, signal)
            if fault := _fault(spoken[address], word, plain=_is_plain(environ, signal, address, word)):
                hint = transport.naming(fault, variable, named)
                found.append(f"{variable}={without_secrets(address)[:128]!r} cannot work with {word}: {hint}")


def _is_plain(environ: Mapping[str, str], signal: Signal, address: str, word: str) -> bool:
    """Whether the exporter speaks without TLS."""
    insecure = environ.get(f"{OTLP}{signal.upper()}_INSECURE") or environ.get(f"{OTLP}INSECURE")
    if word != "grpc" or not insecure or address.startswith("https:"):
        return address.startswith("http:")
    return insecure == "true"


def _fault(spoken: frozenset[str], word: str, *, plain: bool) -> str:
    if not spoken or (plain and word in spoken) or (not plain and "tls" in spoken):
        return ""
    if not plain:
        return transport.PLAIN
    if "tls" in spoken:
        return transport.TLS
    return transport.IS_HTTP if word == "grpc" else transport.NO_HTTP


def _spoken(address: str) -> frozenset[str]:
    """In words of ``OTEL_EXPORTER_OTLP_PROTOCOL``, or ``tls``; empty where it is unknown."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    place = parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme, 4317)
    answers = [_answer(place, request) for request in (_HTTP1, _HTTP2)]
    words = set()
    for answer in answers:
        if answer[:1] == b"\x15" or b"HTTPS" in answer:
            return frozenset({"tls"})
        if answer.startswith(b"HTTP/1"):
            words.add("http/protobuf")
        elif answer[3:4] == b"\4":  # a SETTINGS frame
            words.add("grpc")
    return frozenset(words)


def _answer(place: tuple[str, int], request: bytes) -> bytes:
    try:
        with socket.create_connection(place, SECONDS) as connection:
            connection.sendall(request)
            return connection.recv(512)
    except OSError:
        return b""
