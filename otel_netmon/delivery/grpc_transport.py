"""OTLP by gRPC, over the channel that an official exporter has set up."""

from __future__ import annotations

import os
from typing import Any, Final

import grpc
from google.rpc.error_details_pb2 import RetryInfo

from otel_netmon.delivery.transport import SERVICES, Outcome, Transport
from otel_netmon.internals.otel_internals import GrpcConnection, exporter_class
from otel_netmon.sdk import otlp
from otel_netmon.sdk.values import Signal

_RETRY: Final = frozenset(
    ("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS")
)


class GrpcTransport(Transport):
    """By a unary call; see ``connect`` for what it is made of, and what it raises."""

    def __init__(self, signal: Signal, **arguments: Any) -> None:
        service = SERVICES[signal]
        self._method = f"/opentelemetry.proto.collector.{service}.v1.{service.capitalize()}Service/Export"
        if otlp.setting(os.environ, signal, "COMPRESSION")[0].lower() == "none":
            # the specification's word for it, which this exporter refuses
            arguments.setdefault("compression", grpc.Compression.NoCompression)
        self._exporter = exporter_class("grpc", signal)(**arguments)
        self._connection = GrpcConnection(self._exporter)
        super().__init__(signal, self._connection.endpoint, self._connection.timeout)

    def _attempt(self, data: bytes, timeout: float) -> Outcome:
        try:
            call = self._connection.call(self._method)
            return self._accepted(call(data, metadata=self._connection.metadata, timeout=timeout))
        except grpc.RpcError as raised:
            error: Any = raised
            code, after = error.code().name, _retry_delay(error)
            if code == "UNAVAILABLE":
                self._connection.reconnect()
            if code in _RETRY or (code == "RESOURCE_EXHAUSTED" and after is not None):
                return self._failed(code, error.details() or "", after)
            return self._rejected(code)

    def close(self) -> None:
        self._exporter.shutdown()


def _retry_delay(error: Any) -> float | None:
    """Seconds that the server says to wait for; ``None`` where it says nothing that can be read."""
    try:
        raw = dict(error.trailing_metadata() or ()).get("google.rpc.retryinfo-bin")
        return None if raw is None else RetryInfo.FromString(raw).retry_delay.ToTimedelta().total_seconds()
    except Exception:  # noqa: BLE001 - a server's bytes can be anything
        return None
