"""Requests handed over one after the other, in the foreground: tried again until taken, refused, or patience
ends."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

from otel_netmon.delivery.transport import Outcome, Transport

_BACKOFF: Final = (0.2, 5.0)
_draw: Final = random.SystemRandom().uniform


class Patient:
    """Over one transport. ``patience``: seconds without an answer after which it gives up."""

    def __init__(
        self, transport: Transport, patience: float, failing: Callable[[Outcome], None] = lambda _: None
    ) -> None:
        """``failing`` is told of the first attempt that fails after one that did not."""
        self._transport = transport
        self._patience = patience
        self._failing = failing

    def send(self, data: bytes) -> Outcome:
        """What became of it; ``retry`` where patience came to its end, or the collector asks for more."""
        deadline = time.monotonic() + self._patience
        pause, first = _BACKOFF[0], True
        while True:
            outcome = self._transport.send(data, self._transport.timeout)
            if outcome.kind != "retry":
                return outcome
            if first:
                self._failing(outcome)
            first = False
            wait = pause * _draw(0.8, 1.2) if outcome.after is None else outcome.after
            if time.monotonic() + wait > deadline:
                return outcome
            time.sleep(wait)
            pause = min(2 * pause, _BACKOFF[1])
