"""A collector that never takes anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from otel_netmon.delivery.outbox import Outbox
from otel_netmon.delivery.wire import Outcome, Signal


class Refusing:
    """In the place of a wire; ``parse`` is given each request."""

    endpoint, timeout = "http://nowhere", 1.0

    def __init__(self, parse: Callable[[bytes], Any] = len) -> None:
        self._parse = parse

    def send(self, data: bytes, timeout: float) -> Outcome:
        self._parse(data)
        return Outcome("retry", "UNAVAILABLE")

    def close(self) -> None:
        pass


def outbox(signal: Signal, spool: Path, max_bytes: int, parse: Callable[[bytes], Any] = len) -> Outbox:
    """An outbox to it."""
    return Outbox(lambda: Refusing(parse), signal, spool, max_bytes)  # type: ignore[arg-type, return-value]  # a stand-in
