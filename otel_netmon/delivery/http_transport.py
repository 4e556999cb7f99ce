"""OTLP by HTTP, over a session that an official exporter has set up."""

from __future__ import annotations

import functools
import gzip
import math
import os
import time
import zlib
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from importlib.metadata import entry_points
from typing import Any, Final

import requests
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics.export import MetricsData

from otel_netmon.delivery.transport import PAGE, Outcome, Transport
from otel_netmon.internals.otel_internals import exporter_class
from otel_netmon.sdk.values import Signal

_RETRY: Final = frozenset((429, 502, 503, 504))
_MOST_READ: Final = 1 << 16


class _Rehearsal(requests.Session):
    """Given to an official exporter in place of a session, it notes what it is asked to send: its settings."""

    def request(self, method: Any, url: Any, **options: Any) -> requests.Response:  # type: ignore[override]  # as it is called
        self.asked = method, str(url), bytes(options.pop("data")), float(options.pop("timeout")), options
        response = requests.Response()
        response.status_code = 200
        return response


class HttpTransport(Transport):
    """By POST; see ``connect`` for what it is made of, and what it raises."""

    _by_http = True

    def __init__(self, signal: Signal, *, session: requests.Session | None = None, **arguments: Any) -> None:
        rehearsal = _Rehearsal()
        exporter = exporter_class("http", signal)(
            session=rehearsal, **{"meter_provider": NoOpMeterProvider(), **arguments}
        )
        exporter.export(MetricsData([]) if signal == "metrics" else ())
        exporter.shutdown()
        if not hasattr(rehearsal, "asked"):
            raise LookupError(f"{type(exporter).__module__} does not use the session that it is given")
        self._method, endpoint, nothing, timeout, self._options = rehearsal.asked
        super().__init__(signal, endpoint, timeout)
        zipped = gzip.compress if nothing.startswith(b"\x1f\x8b") else zlib.compress
        self._compress: Callable[[bytes], bytes] = zipped if nothing else bytes
        self._session = session or _users_session(signal) or requests.Session()
        self._session.verify = rehearsal.verify
        self._session.cert = rehearsal.cert or self._session.cert

    def _attempt(self, data: bytes, timeout: float) -> Outcome:
        response = self._post(self._compress(data), timeout)
        status, body = response.status_code, response.content[:_MOST_READ]
        if 200 <= status < 300:
            is_page = str(response.headers.get("content-type", "")).startswith("text/html")
            return self._accepted(body, PAGE if is_page else "")
        if status in _RETRY:
            return Outcome("retry", f"HTTP {status}", _seconds(response.headers.get("retry-after", "")))
        return self._rejected(f"HTTP {status}", repr(body))

    def _post(self, body: bytes, timeout: float) -> requests.Response:
        send = functools.partial(self._session.request, self._method, self.endpoint, data=body, **self._options)
        end = time.monotonic() + timeout
        try:
            return send(timeout=timeout)
        except requests.ConnectionError:  # at once again: the collector may have closed one that was kept alive
            if (left := end - time.monotonic()) <= 0:
                raise
            return send(timeout=left)

    def close(self) -> None:
        self._session.close()


def _users_session(signal: Signal) -> Any:
    """That of a credential provider: the official exporter looks for it where it is given no session."""
    for place in ("", f"{signal.upper()}_"):
        if name := os.environ.get(f"OTEL_PYTHON_EXPORTER_OTLP_HTTP_{place}CREDENTIAL_PROVIDER"):
            return entry_points(group="opentelemetry_otlp_credential_provider")[name].load()()
    return None


def _seconds(text: str) -> float | None:
    """``Retry-After``: seconds or a date; ``None`` where it says neither."""
    try:
        return max(0.0, seconds) if math.isfinite(seconds := float(text)) else None
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
