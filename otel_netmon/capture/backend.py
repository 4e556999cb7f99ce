"""Which backend captures: chosen by what this torch can do, not by its version."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from otel_netmon.capture.backends import hooks
from otel_netmon.capture.backends.dispatcher import DispatcherBackend
from otel_netmon.capture.backends.flight_recorder import FlightRecorderBackend
from otel_netmon.capture.backends.hooks import HooksBackend

if TYPE_CHECKING:
    from otel_netmon.capture.backends.base import CaptureBackend

_logger = logging.getLogger(__name__)


def choose(capture: str) -> tuple[type[CaptureBackend], ...]:
    """The backend that ``OTEL_NETMON_CAPTURE`` names, or for ``auto`` the cheapest that this torch has; after it
    those that stand in where it cannot be installed."""
    if capture == "flight_recorder":
        return FlightRecorderBackend, DispatcherBackend
    if capture in ("auto", "hooks"):
        if hooks.are_available():
            return HooksBackend, DispatcherBackend
        if capture == "hooks":
            _logger.warning(
                "otel-netmon: OTEL_NETMON_CAPTURE=hooks, but this torch has no process-group hooks (2.14 is the "
                "first that has); capturing in the dispatcher, which sees the same at a higher cost per call"
            )
    return (DispatcherBackend,)
