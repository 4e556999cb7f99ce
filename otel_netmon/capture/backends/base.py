"""What every capture backend is, and what those need not do that have nothing to do."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from otel_netmon.guard import guarded, log_once
from otel_netmon.internals.torch_internals import registered_groups

if TYPE_CHECKING:
    from otel_netmon.black_box.box import Box
    from otel_netmon.capture.recorder import Recorder
    from otel_netmon.job.groups import Groups

_logger = logging.getLogger(__name__)


def installed(costs: str, install: Callable[[], object], remove: Callable[[], object] = lambda: None) -> bool:
    """Install a part, whole or not at all; whether that is done. ``costs`` is logged where it is not."""
    try:
        install()
    except Exception as error:  # noqa: BLE001  # another torch: law 1
        log_once(_logger, error, f"otel-netmon: this torch differs from those supported: {costs}")
        guarded(remove)
        return False
    return True


class CaptureBackend:
    """A place where every collective passes, from ``install`` to ``remove``."""

    records_calls: ClassVar[bool] = True
    """Whether code of ours runs in each call: then the first one starts the background thread, and the end of a
    wait can be seen. False where collectives are found by polling alone."""

    sees_waits = False
    """Whether it sees the callers' waits itself: then nothing else replaces ``Work.wait``."""

    def __init__(self, recorder: Recorder, groups: Groups) -> None:
        self._recorder = recorder
        self._groups = groups

    @property
    def blocked(self) -> int:
        """Nanoseconds that the main thread spent in waits which it saw."""
        return 0

    @property
    def known_until(self) -> int:
        """Until when, in ns of the monotonic clock, it is known which collectives ended."""
        return time.monotonic_ns()

    def install(self) -> None:
        """Begin to capture; initialises no device. Raises where this torch lacks the means."""
        raise NotImplementedError

    def remove(self) -> None:
        """Stop; what was there before is there again. Does nothing where nothing is installed."""
        raise NotImplementedError

    def group_created(self, process_group: Any) -> None:
        """See to a group; it may have been seen to before."""

    def poll(self) -> None:
        """Called from the background, every second at least: see to groups that were not announced."""
        for group in list(registered_groups()):
            guarded(self.group_created, group)  # one that breaks costs neither the others nor the round

    def keep_last_calls(self, box: Box) -> None:
        """Write to ``box`` what the recorder does not see begin and end."""

    def groups_closing(self) -> None:
        """The groups are about to be destroyed: last chance to ask them anything."""

    def close_failed_calls(self) -> None:
        """Close the events of calls that raised in this thread, which is inside none now."""
