"""Which backend captures: chosen by what this torch can do, not by its version."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from otel_netmon.capture.backends import hooks
from otel_netmon.capture.backends.dispatcher import DispatcherBackend
from otel_netmon.capture.backends.flight_recorder import FlightRecorderBackend
from otel_netmon.capture.backends.hooks import HooksBackend

if TYPE_CHECKING:
    from otel_netmon.capture.recorder import Recorder
    from otel_netmon.capture.steps import StepTracker
    from otel_netmon.job.groups import Groups

_logger = logging.getLogger(__name__)


class CaptureBackend(Protocol):
    """A place where every collective passes."""

    def install(self) -> None:
        """Begin to capture. Needs torch to be imported; initialises no device."""

    def remove(self) -> None:
        """End it; what was there before is there again."""

    def poll(self) -> None:
        """See to what came up since the last call; from the background, regularly."""

    def group_created(self, process_group: Any) -> None:
        """See to a new group."""

    def groups_closing(self) -> None:
        """The groups are about to go: see to what was not seen yet."""

    def close_failed_calls(self, this_thread: int) -> None:
        """Say which calls raised, of those that ``this_thread`` made: it is not inside any of them now."""


def choose(capture: str, recorder: Recorder, groups: Groups, steps: StepTracker) -> CaptureBackend:
    """The backend that ``OTEL_NETMON_CAPTURE`` names, or for ``auto`` the cheapest that this torch has."""
    if capture == "flight_recorder":
        return FlightRecorderBackend(recorder, groups, steps)
    if capture in ("auto", "hooks"):
        if hooks.are_there():
            return HooksBackend(recorder, groups)
        if capture == "hooks":
            _logger.warning(
                "otel-netmon: OTEL_NETMON_CAPTURE=hooks: this torch has no process-group hooks (2.14 is the "
                "first that has); using the dispatcher, which sees the same at a higher cost per call"
            )
    return DispatcherBackend(recorder, groups)
