"""A collector that never takes anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from otel_netmon.delivery.send_queue import SendQueue
from otel_netmon.delivery.transport import Outcome, Transport
from otel_netmon.sdk.values import Signal


class Refusing(Transport):
    """``parse`` is given each request."""

    def __init__(self, signal: Signal, parse: Callable[[bytes], Any]) -> None:
        super().__init__(signal, "http://user:hunter2@nowhere", 1.0)
        self._parse = parse

    def send(self, data: bytes, timeout: float) -> Outcome:
        self._parse(data)
        return Outcome("retry", "UNAVAILABLE")


def refusing(signal: Signal, spool: Path, max_bytes: int, parse: Callable[[bytes], Any] = len) -> SendQueue:
    """A queue to it."""
    return SendQueue(lambda: Refusing(signal, parse), signal, spool, max_bytes)
