"""Which way a signal goes to its collector: gRPC or HTTP, as the standard variables say."""

from __future__ import annotations

import functools
import logging
import os
from typing import Any

from otel_netmon.delivery.transport import Transport
from otel_netmon.sdk import otlp
from otel_netmon.sdk.values import Signal

_logger = logging.getLogger(__name__)


def protocol(signal: Signal) -> str:
    """``grpc`` or ``http/protobuf``; gRPC where nothing is set.

    Any other word is logged once, and HTTP, the specification's default, is used.
    """
    word, variable = otlp.protocol(os.environ, signal)
    if word in otlp.SERVED:
        return word
    _warn(otlp.unserved(variable, word).sentence)
    return "http/protobuf"


@functools.cache
def _warn(sentence: str) -> None:
    _logger.warning("otel-netmon: %s", sentence)


def connect(signal: Signal, **arguments: Any) -> Transport:
    """By the protocol of ``signal``, with address, headers, compression, certificates, proxies and time limit as
    the official exporter reads them from the standard variables, or from its ``arguments``.

    Raises what that raises at settings that it refuses; LookupError where this version of it is made otherwise.
    """
    if protocol(signal) == "grpc":
        from otel_netmon.delivery.grpc_transport import GrpcTransport

        return GrpcTransport(signal, **arguments)
    from otel_netmon.delivery.http_transport import HttpTransport

    return HttpTransport(signal, **arguments)
