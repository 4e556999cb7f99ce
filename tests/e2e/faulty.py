"""An OTLP collector that does as it is told: takes, delays, refuses, resets, answers in part. gRPC or HTTP.

It counts every span id that it acknowledged, so that a test can say what was lost and what came twice.
"""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

Protocol = Literal["grpc", "http/protobuf"]

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.UNAVAILABLE,
    503: grpc.StatusCode.UNAVAILABLE,
}


class Faulty:
    """What the collector got, and how it is to behave from now on."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.status: int | None = None
        """Refuse with this HTTP status, or what it is in gRPC."""
        self.retry_after: float | None = None
        self.delay = 0.0
        self.hang = threading.Event()
        """While set, requests are taken in and never answered."""
        self.partial = 0
        """Items that the answer says were rejected."""
        self.lose_answers = 0
        """So many requests are counted, and then the connection is reset before the answer."""
        self.spans: Counter[bytes] = Counter()
        self.batches: list[set[bytes]] = []
        self.names: Counter[str] = Counter()
        self.different: dict[str, set[bytes]] = {}
        """By the names of spans, their ids."""
        """By the first word of the span's name."""
        self.points = 0
        self.events: list[Any] = []
        self.sums: dict[str, float] = {}
        self.counts: dict[str, dict[str, int]] = {}
        """Of each histogram: how much each process counted last, by its ``service.instance.id``."""
        self.requests: list[float] = []
        self.headers: list[dict[str, str]] = []
        self.lock = threading.Lock()

    def take(self, signal: str, data: bytes) -> bytes:
        """Count a request and give the answer to it."""
        with self.lock:
            if signal == "traces":
                request = ExportTraceServiceRequest.FromString(data)
                found = [s for r in request.resource_spans for sc in r.scope_spans for s in sc.spans]
                self.spans.update(span.span_id for span in found)
                self.batches.append({span.span_id for span in found})
                self.names.update(span.name.partition(" ")[0] for span in found)
                for span in found:
                    self.different.setdefault(span.name, set()).add(span.span_id)
                answer = ExportTraceServiceResponse()
                answer.partial_success.rejected_spans = self.partial
            elif signal == "logs":
                logs = ExportLogsServiceRequest.FromString(data)
                self.events += [e for r in logs.resource_logs for s in r.scope_logs for e in s.log_records]
                return bytes(ExportLogsServiceResponse().SerializeToString())
            else:
                metrics = ExportMetricsServiceRequest.FromString(data)
                for resource in metrics.resource_metrics:
                    about = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
                    for each in (m for scope in resource.scope_metrics for m in scope.metrics):
                        if each.HasField("histogram"):
                            count = sum(point.count for point in each.histogram.data_points)
                            self.counts.setdefault(each.name, {})[about["service.instance.id"]] = count
                        for point in each.sum.data_points:
                            value = point.as_int or point.as_double
                            self.sums[each.name] = max(self.sums.get(each.name, 0), value)
                            self.points += 1
                answer = ExportMetricsServiceResponse()
                answer.partial_success.rejected_data_points = self.partial
            return bytes(answer.SerializeToString())

    def wait_for(self, spans: int, timeout: float = 30) -> None:
        """Until so many different spans were acknowledged."""
        until(lambda: len(self.spans) >= spans, timeout, lambda: f"{len(self.spans)} of {spans} spans came")

    def pause(self) -> None:
        with self.lock:
            self.requests.append(time.monotonic())
        if self.delay:
            time.sleep(self.delay)
        while self.hang.is_set():
            time.sleep(0.05)


def until(done: Callable[[], bool], timeout: float, why: Callable[[], str] = lambda: "") -> None:
    """Wait for something that is sure to come."""
    deadline = time.monotonic() + timeout
    while not done():
        assert time.monotonic() < deadline, why()
        time.sleep(0.02)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def serving(faulty: Faulty, port: int) -> Iterator[None]:
    """The collector, up for the time of the block."""
    if faulty.protocol == "grpc":
        with _grpc(faulty, port):
            yield
    else:
        with _http(faulty, port):
            yield


@contextmanager
def _http(faulty: Faulty, port: int) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            data = self.rfile.read(int(self.headers["content-length"]))
            faulty.pause()
            if faulty.status is not None:
                self.send_response(faulty.status)
                if faulty.retry_after is not None:
                    self.send_header("Retry-After", f"{faulty.retry_after:g}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if self.headers.get("content-encoding") == "gzip":
                data = gzip.decompress(data)
            faulty.headers.append(dict(self.headers))
            answer = faulty.take(self.path.rpartition("/")[2], data)
            if faulty.lose_answers:
                faulty.lose_answers -= 1
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        allow_reuse_address = True

        def process_request(self, request: Any, client_address: Any) -> None:
            open_connections.append(request)
            super().process_request(request, client_address)

        def handle_error(self, *_: Any) -> None:
            pass

    open_connections: list[socket.socket] = []
    server = Server(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
        faulty.hang.clear()
        for connection in open_connections:  # those that are kept alive would serve on
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def _grpc(faulty: Faulty, port: int) -> Iterator[None]:
    def export(signal: str) -> Any:
        def handle(data: bytes, context: Any) -> bytes:
            faulty.pause()
            if faulty.status is not None:
                if faulty.retry_after is not None:
                    info = RetryInfo(retry_delay=Duration(nanos=int(faulty.retry_after * 1e9)))
                    context.set_trailing_metadata((("google.rpc.retryinfo-bin", info.SerializeToString()),))
                context.abort(_CODES[faulty.status], "as told")
            faulty.headers.append({key: str(value) for key, value in context.invocation_metadata()})
            answer = faulty.take(signal, data)
            if faulty.lose_answers:
                faulty.lose_answers -= 1
                context.abort(grpc.StatusCode.UNAVAILABLE, "as told")
            return answer

        return grpc.unary_unary_rpc_method_handler(handle)

    server = grpc.server(futures.ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
    for service, signal in (
        ("trace.v1.TraceService", "traces"),
        ("metrics.v1.MetricsService", "metrics"),
        ("logs.v1.LogsService", "logs"),
    ):
        name = f"opentelemetry.proto.collector.{service}"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {"Export": export(signal)}),))
    assert server.add_insecure_port(f"127.0.0.1:{port}") == port
    server.start()
    try:
        yield
    finally:
        faulty.hang.clear()
        server.stop(0).wait()
