"""The seam with nothing on the way of a collective: it reads the Flight Recorder, regularly and in the background.

For those who want no code of ours on the training thread at all. It sees what the recorder sees: on NCCL every
collective, on gloo all but sends, receives and monitored barriers; and when a collective ended only where the
recorder timed it, else a bound (NCCL) or nothing (gloo): such spans are marked ``late``.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Final

from otel_netmon.collectives.event import CollectiveEvent
from otel_netmon.collectives.flight_recorder import Entry, own_entries
from otel_netmon.collectives.operations import OPERATIONS
from otel_netmon.runtime import guarded

if TYPE_CHECKING:
    from otel_netmon.collectives.groups import Group, Groups
    from otel_netmon.collectives.record import Recorder
    from otel_netmon.collectives.steps import StepTracker

_BY_NAME: Final = {operation.name: operation for operation in OPERATIONS.values()}
_BY_OUTPUT: Final = frozenset(
    operation.name for operation in OPERATIONS.values() if (operation.buffer or "").startswith("output")
)
_BACKENDS: Final = ("nccl", "gloo")
_REMEMBERED: Final = 8192
_BYTES: Final = {
    **dict.fromkeys(("Byte", "Char", "Bool", "Float8_e4m3fn", "Float8_e5m2"), 1),
    **dict.fromkeys(("Short", "Half", "BFloat16"), 2),
    **dict.fromkeys(("Int", "Float"), 4),
    **dict.fromkeys(("Long", "Double", "ComplexFloat"), 8),
    "ComplexDouble": 16,
}
"""By the recorder's names of element types."""


class FlightRecorderSeam:
    """Events made of the recorder's entries. Used by the background thread, but for ``install`` and ``remove``."""

    def __init__(self, recorder: Recorder, groups: Groups, steps: StepTracker) -> None:
        self._recorder = recorder
        self._groups = groups
        self._steps = steps
        self._epoch = time.time_ns() - time.monotonic_ns()
        self._since = 0
        self._pending: dict[tuple[str, bool, int, int], CollectiveEvent] = {}
        self._seen: dict[tuple[str, bool, int, int], None] = {}
        self._installed = False

    def install(self) -> None:
        """What the recorder held before is not ours."""
        self._since = time.time_ns()
        self._installed = True

    def remove(self) -> None:
        """A last look."""
        if self._installed:
            self.look()
            self._installed = False

    def made(self, process_group: Any) -> None:
        """Nothing: the recorder names the groups."""

    def settle(self, this_thread: int) -> None:
        """Nothing: a call that raised is not in the recorder."""

    def look(self) -> None:
        """Take in what the recorder has got since the last look."""
        from torch.distributed import distributed_c10d as c10d

        groups = {str(group.group_name): group for group in list(c10d._world.pg_map)}
        for backend in _BACKENDS:
            for entry in guarded(own_entries, backend, self._since) or ():
                group = groups.get(entry.group)
                if group is not None:
                    self._take(entry, self._groups.of(group))

    def _take(self, entry: Entry, group: Group) -> None:
        key = (entry.group, entry.is_p2p, entry.sequence, entry.created)
        operation = _BY_NAME.get(entry.operation)
        if operation is None or key in self._seen:
            return
        event = self._pending.get(key)
        if event is None:
            start = entry.created - self._epoch
            on_host = entry.backend != "nccl"
            sizes = entry.output_sizes if operation.name in _BY_OUTPUT else entry.input_sizes
            event = self._pending[key] = CollectiveEvent(
                operation,
                group,
                start,
                self._steps.tick_at(start),
                _bytes(sizes, entry.dtypes) * (group.size if operation.is_share else 1),
                None,
                None if entry.is_p2p else entry.sequence,
                None,
                not operation.has_splits,
                on_host,
            )
            if not on_host:
                group.device_backend = entry.backend
            self._recorder.ring.begin(event)
        if entry.retired or entry.state == "completed":
            del self._pending[key]
            self._seen[key] = None
            if len(self._seen) > _REMEMBERED:
                del self._seen[next(iter(self._seen))]
            self._finish(event, entry)

    def _finish(self, event: CollectiveEvent, entry: Entry) -> None:
        end = event.start
        if entry.duration is not None:
            event.device_duration = int(entry.duration * 1e9)
            end += event.device_duration
        else:
            event.is_late = True
            if entry.discovered_completed is not None:
                event.device_bound = max(0, entry.discovered_completed - entry.created)
                end += event.device_bound
        self._recorder.ring.finish(event, end)


def _bytes(tensors: tuple[tuple[int, ...], ...], dtypes: tuple[str, ...]) -> int:
    return sum(math.prod(sizes) * _BYTES.get(dtype, 0) for sizes, dtype in zip(tensors, dtypes, strict=False))


def needs_no_first_event(seam: Any) -> bool:
    """Whether ``seam`` has nothing on the training thread that could start the background."""
    return isinstance(seam, FlightRecorderSeam)
