"""Which seam captures: chosen by what this torch can do, not by its version."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from otel_netmon.collectives import hooks
from otel_netmon.collectives.dispatcher import DispatcherSeam
from otel_netmon.collectives.hooks import HooksSeam
from otel_netmon.collectives.polling import FlightRecorderSeam

if TYPE_CHECKING:
    from otel_netmon.collectives.groups import Groups
    from otel_netmon.collectives.record import Recorder
    from otel_netmon.collectives.steps import StepTracker

_logger = logging.getLogger(__name__)


class Seam(Protocol):
    """A place where every collective passes."""

    def install(self) -> None:
        """Begin to capture. Needs torch to be imported; initialises no device."""

    def remove(self) -> None:
        """End it; what was there before is there again."""

    def look(self) -> None:
        """See to what came up since the last call; from the background, regularly."""

    def made(self, process_group: Any) -> None:
        """See to a new group."""

    def going(self) -> None:
        """The groups are about to go: see to what was not seen yet."""

    def settle(self, this_thread: int) -> None:
        """Say which calls raised, of those that ``this_thread`` made: it is not inside any of them now."""


def choose(capture: str, recorder: Recorder, groups: Groups, steps: StepTracker) -> Seam:
    """The seam that ``OTEL_NETMON_CAPTURE`` names, or for ``auto`` the cheapest that this torch has."""
    if capture == "flight_recorder":
        return FlightRecorderSeam(recorder, groups, steps)
    if capture in ("auto", "hooks"):
        if hooks.are_there():
            return HooksSeam(recorder, groups)
        if capture == "hooks":
            _logger.warning(
                "otel-netmon: OTEL_NETMON_CAPTURE=hooks: this torch has no process-group hooks (2.14 is the "
                "first that has); using the dispatcher, which sees the same at a higher cost per call"
            )
    return DispatcherSeam(recorder, groups)
