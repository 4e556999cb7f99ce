"""The backend with nothing in the way of a collective: it polls the Flight Recorder in the background.

For those who want no code of ours on the training thread at all. It sees what the recorder sees: on NCCL every
collective, on gloo all but sends, receives and monitored barriers; and when a collective ended only where the
recorder timed it, else a bound (NCCL) or nothing (gloo): such spans are marked ``late``.

The recorder is a ring too, and numbers its entries: what it overwrote between two looks shows as a gap, and is
counted. It outlives the groups: which group a call was on is asked when torch registers one, because at the look
that finds the call the group may be gone.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from otel_netmon.capture.device_times import recording
from otel_netmon.capture.event import CollectiveEvent
from otel_netmon.capture.operations import OPERATIONS
from otel_netmon.flight_recorder import Dump, Entry, own_dump
from otel_netmon.guard import guarded
from otel_netmon.job.groups import Group
from otel_netmon.job.store import all_groups

if TYPE_CHECKING:
    from otel_netmon.capture.recorder import Recorder
    from otel_netmon.capture.steps import StepTracker
    from otel_netmon.job.groups import Groups

_logger = logging.getLogger(__name__)

_BY_NAME: Final = {operation.name: operation for operation in OPERATIONS.values()}
_BY_OUTPUT: Final = frozenset(
    operation.name for operation in OPERATIONS.values() if (operation.buffer or "").startswith("output")
)
_BACKENDS: Final = ("nccl", "gloo")
_REMEMBERED: Final = 4096
_LAST_LOOKS: Final = 5
_BETWEEN: Final = 0.01
_SAME_NAME: Final = 15
_PAUSES: Final = 9
"""How many times as long as a look took there is none, where it took longer than ``_CHEAP`` seconds."""
_CHEAP: Final = 0.025
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


class FlightRecorderBackend:
    """Events made of the recorder's entries. Used by the background thread, but for ``install`` and ``remove``,
    and for the registration of a group."""

    def __init__(self, recorder: Recorder, groups: Groups, steps: StepTracker) -> None:
        self._recorder = recorder
        self._groups = groups
        self._steps = steps
        self._epoch = time.time_ns() - time.monotonic_ns()
        self._next: dict[str, int] = {}
        """By backend, the number of the entry that the next look begins with."""
        self._pending: dict[tuple[str, int], CollectiveEvent] = {}
        """By backend and number, what had not ended at the last look."""
        self._named: dict[str, list[tuple[int, Group]]] = {}
        """By name, the groups that had it, and since when, in nanoseconds since the epoch."""
        self._installed = False
        self._not_before = 0.0

    def install(self) -> None:
        """What the recorder held before is not ours."""
        if not recording():
            _logger.warning(
                "otel-netmon: OTEL_NETMON_CAPTURE=flight_recorder, but the recorder is off "
                "(TORCH_FR_BUFFER_SIZE is 0): no collective will be seen"
            )
        # Not asked while there is no group: the recorder is made when it is asked first, and the script may
        # still have to set its variables.
        if all_groups() or self._next:
            self._next = {backend: guarded(_end_of, backend) or 0 for backend in _BACKENDS}
        self._note_all()
        self._installed = True

    def remove(self) -> None:
        """A last look, and some more for what a backend's thread is about to call done."""
        if not self._installed:
            return
        self._poll()
        for _ in range(_LAST_LOOKS):
            if not self._pending:
                break
            time.sleep(_BETWEEN)
            self._poll()
        self._installed = False

    def group_created(self, process_group: Any) -> None:
        """Note a new group: it may be gone when its calls are found."""
        self._note(process_group, time.time_ns())

    def close_failed_calls(self, this_thread: int) -> None:
        """Nothing: a call that raised is not in the recorder."""

    def poll(self) -> None:
        """Take in what the recorder has got since the last look, unless that was just now.

        A look reads all that the recorder holds, under the interpreter's lock: a tenth of the time at most.
        """
        if time.monotonic() >= self._not_before:
            self.groups_closing()

    def groups_closing(self) -> None:
        """A look in any case: what was recorded may be asked for no more."""
        since = time.monotonic()
        self._poll()
        now = time.monotonic()
        self._not_before = now + _PAUSES * (now - since) if now - since > _CHEAP else 0.0

    def _poll(self) -> None:
        guarded(self._note_all)
        for backend in _BACKENDS:
            dump = guarded(own_dump, backend)
            if dump is not None:
                guarded(self._take_in, backend, dump)

    # --- groups -------------------------------------------------------------------------------------------

    def _note_all(self) -> None:
        """Those that torch registered without our seeing it have been there always."""
        for process_group in list(all_groups()):
            self._note(process_group, 0)

    def _note(self, process_group: Any, since: int) -> None:
        group = self._groups.of(process_group)
        named = self._named.setdefault(group.name, [])
        if not any(each is group for _, each in named):
            self._named[group.name] = [*named[-_SAME_NAME:], (since, group)]
            if len(self._named) > _REMEMBERED:
                del self._named[next(iter(self._named))]

    def _group_of(self, entry: Entry) -> Group:
        """The last group of that name that had been registered by then; else one of which only that is known."""
        named = self._named.get(entry.group)
        if not named:
            self._named[entry.group] = named = [(0, Group(entry.group, 0, -1, entry.backend))]
        before = [group for since, group in sorted(named, key=_since) if since <= entry.created]
        return before[-1] if before else named[0][1]

    # --- entries ------------------------------------------------------------------------------------------

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
        self._recorder.missed(max(0, first - since), unreadable)
        pending = {number for of, number in self._pending if of == backend}
        for number in sorted(new | pending):
            entry = entries.get(number)
            if entry is not None:
                self._take(backend, number, entry)
            else:  # overwritten meanwhile: it ended, or nothing will ever tell
                event = self._pending.pop((backend, number))
                event.is_late = True
                self._recorder.finished(event)

    def _take(self, backend: str, number: int, entry: Entry) -> None:
        operation = _BY_NAME.get(entry.operation)
        if operation is None:
            if not entry.operation.endswith(_WRAPPER):
                self._recorder.missed(0, 1)
            return
        event = self._pending.pop((backend, number), None)
        if event is None:
            group = self._group_of(entry)
            group.placed()
            start = entry.created - self._epoch
            on_host = entry.backend != "nccl"
            sizes = entry.output_sizes if operation.name in _BY_OUTPUT else entry.input_sizes
            event = CollectiveEvent(
                operation,
                group,
                start,
                self._steps.boundaries_at(start),
                _bytes(sizes, entry.dtypes) * (group.size if operation.is_share else 1),
                None,
                None if entry.is_p2p else entry.sequence,
                None,
                not operation.has_splits,
                on_host,
            )
            if not on_host:
                group.device_backend = entry.backend
            if not self._recorder.ring.begin(event):
                return
        if entry.retired or entry.state == "completed":
            self._finish(event, entry)
        else:
            self._pending[backend, number] = event

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


def _since(named: tuple[int, Group]) -> int:
    return named[0]


def _end_of(backend: str) -> int:
    dump = own_dump(backend)
    return 0 if dump is None else 1 + max((entry.number or 0 for entry in dump.entries), default=-1)


def _bytes(tensors: tuple[tuple[int, ...], ...], dtypes: tuple[str, ...]) -> int:
    return sum(math.prod(sizes) * _BYTES.get(dtype, 0) for sizes, dtype in zip(tensors, dtypes, strict=False))


def needs_no_first_event(backend: Any) -> TypeGuard[FlightRecorderBackend]:
    """Whether ``backend`` has nothing on the training thread that could start the background."""
    return isinstance(backend, FlightRecorderBackend)
