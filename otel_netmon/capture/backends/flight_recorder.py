"""The backend that puts nothing in the way of a collective: it polls the Flight Recorder in the background.

It sees what the recorder sees: on NCCL every collective, on gloo all but sends, receives and monitored barriers.
When a collective ended is known only where the recorder timed it; otherwise there is a bound (NCCL) or nothing
(gloo), and such spans are marked ``late``.

The recorder is a ring too, and numbers its entries: what it overwrote between two polls shows as a gap, and is
counted. It outlives the groups, which may be gone when their calls are found: so ``Groups`` keeps them by name.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any, Final

from otel_netmon import forks, threads
from otel_netmon.capture.backends.base import CaptureBackend
from otel_netmon.capture.device_times import note_device_time, recording
from otel_netmon.capture.event import CollectiveEvent
from otel_netmon.capture.operations import OPERATIONS
from otel_netmon.flight_recorder import Dump, Entry, own_dump
from otel_netmon.guard import guarded
from otel_netmon.internals.torch_internals import registered_groups

if TYPE_CHECKING:
    from otel_netmon.capture.recorder import Recorder
    from otel_netmon.job.groups import Groups

_logger = logging.getLogger(__name__)

_BY_NAME: Final = {operation.name: operation for operation in OPERATIONS.values()}
_BACKENDS: Final = ("nccl", "gloo")
_LAST_POLLS: Final = 5
_BETWEEN: Final = 0.01
_PAUSES: Final = 9
_CHEAP: Final = 0.025
"""After a poll that took longer than so many seconds there is none for ``_PAUSES`` times as long."""
_WRAPPER: Final = "coalesced"
"""Ends the name of an entry that stands for several others, each of which has one of its own."""
_BYTES: Final = {
    **dict.fromkeys(("Byte", "Char", "Bool", "Float8_e4m3fn", "Float8_e5m2"), 1),
    **dict.fromkeys(("Short", "Half", "BFloat16"), 2),
    **dict.fromkeys(("Int", "Float"), 4),
    **dict.fromkeys(("Long", "Double", "ComplexFloat"), 8),
    "ComplexDouble": 16,
}
"""By the recorder's names of element types."""


class FlightRecorderBackend(CaptureBackend):
    """Events made of the recorder's entries. Entries that were there before ``install`` are left out."""

    records_calls = False

    def __init__(self, recorder: Recorder, groups: Groups) -> None:
        super().__init__(recorder, groups)
        self._lock = threads.RLock()
        """Held for a poll: one may come from the background while the groups are being destroyed."""
        self._epoch = time.time_ns() - time.monotonic_ns()
        self._next: dict[str, int] = {}
        """By backend, the number of the entry that the next poll begins with."""
        self._pending: dict[tuple[str, int], CollectiveEvent] = {}
        """By backend and number, what had not ended at the last poll."""
        self._installed = False
        self._not_before = 0.0
        self._polled = 0
        """When the last poll began."""
        forks.register(self)

    def after_fork_in_child(self) -> None:
        """A poll may have been under way in the parent."""
        self._lock = threads.RLock()

    def install(self) -> None:
        """Note where the recorder is now."""
        if not recording():
            _logger.warning(
                "otel-netmon: OTEL_NETMON_CAPTURE=flight_recorder, but the recorder is off "
                "(TORCH_FR_BUFFER_SIZE is 0): no collective will be seen; unset it, or use another capture"
            )
        # Asking makes the recorder; while there is no group, the script may still have to set its variables.
        if registered_groups() or self._next:
            self._next = {backend: guarded(_end_of, backend) or 0 for backend in _BACKENDS}
        super().poll()
        self._installed = True

    def remove(self) -> None:
        """Poll once more, and then for what a backend's thread is about to call done."""
        if not self._installed:
            return
        self._poll()
        for _ in range(_LAST_POLLS):
            if not self._pending:
                break
            time.sleep(_BETWEEN)
            self._poll()
        self._installed = False

    @property
    def known_until(self) -> int:
        """The last poll, which may be seconds ago."""
        return self._polled

    def group_created(self, process_group: Any) -> None:
        """Have it remembered: it may be gone when its calls are found."""
        self._groups.of(process_group)

    def poll(self) -> None:
        """Take in what the recorder has got since the last poll. A poll reads all that the recorder holds, under
        the interpreter lock: a tenth of the time at most."""
        if time.monotonic() >= self._not_before:
            self.groups_closing()

    def groups_closing(self) -> None:
        """Poll in any case."""
        since = time.monotonic()
        self._poll()
        now = time.monotonic()
        self._not_before = now + _PAUSES * (now - since) if now - since > _CHEAP else 0.0

    def _poll(self) -> None:
        super().poll()
        with self._lock:
            self._polled = time.monotonic_ns()
            for backend in _BACKENDS:
                dump = guarded(own_dump, backend)
                if dump is not None:
                    guarded(self._take_in, backend, dump)

    def _take_in(self, backend: str, dump: Dump) -> None:
        entries = {entry.number: entry for entry in dump.entries if entry.number is not None}
        if not entries:
            return
        first, last = min(entries), max(entries)
        since = self._next.get(backend, 0)
        if last < since - 1:  # the recorder was reset, and counts anew
            since = first
        self._next[backend] = last + 1
        new = {number for number in entries if number >= since}
        unreadable = last + 1 - max(first, since) - len(new)
        self._recorder.ring.missed(max(0, first - since))
        self._recorder.errors += unreadable
        pending = {number for of, number in self._pending if of == backend}
        for number in sorted(new | pending):
            entry = entries.get(number)
            if entry is not None:
                self._take(backend, number, entry)
            else:  # overwritten meanwhile: it ended, or nothing will ever tell of its end
                self._recorder.ended_by_now(self._pending.pop((backend, number)))

    def _take(self, backend: str, number: int, entry: Entry) -> None:
        operation = _BY_NAME.get(entry.operation)
        if operation is None:
            if not entry.operation.endswith(_WRAPPER):
                self._recorder.errors += 1
            return
        event = self._pending.pop((backend, number), None)
        if event is None:
            group = self._groups.named(entry.group, entry.created, entry.backend)
            group.placed()
            start = entry.created - self._epoch
            on_host = entry.backend != "nccl"
            sizes = entry.output_sizes if operation.is_output and not operation.is_p2p else entry.input_sizes
            size = _bytes(sizes, entry.dtypes) * (group.size if operation.is_share else 1)
            is_even = not operation.has_splits
            kind = self._recorder.kinds[operation, group, size, None, None, is_even, on_host]
            sequence = None if entry.is_p2p else entry.sequence
            event = CollectiveEvent(kind, start, self._recorder.steps.boundaries_at(start), sequence)
            if not on_host:
                group.device_backend = entry.backend
            if not self._recorder.ring.begin(event):
                return
        if entry.retired or entry.state == "completed":
            self._finish(event, entry)
        else:
            self._pending[backend, number] = event

    def _finish(self, event: CollectiveEvent, entry: Entry) -> None:
        note_device_time(event, entry)
        event.is_late = event.device_duration is None
        self._recorder.ring.finish(event, event.start + (event.device_duration or event.device_bound or 0))


def _end_of(backend: str) -> int:
    dump = own_dump(backend)
    return 0 if dump is None else 1 + max((entry.number or 0 for entry in dump.entries), default=-1)


def _bytes(tensors: tuple[tuple[int, ...], ...], dtypes: tuple[str, ...]) -> int:
    return sum(math.prod(sizes) * _BYTES.get(dtype, 0) for sizes, dtype in zip(tensors, dtypes, strict=False))
