"""How long collectives took on a device: the Flight Recorder's entries, joined to our events.

The recorder times transfers where collective timing is on (``TORCH_NCCL_ENABLE_TIMING=1``); otherwise it only has
the time when its watchdog noticed the end, which is a bound. Entries and events are joined by group, sequence
number and operation, and where that does not fit, not at all. Unverified on hardware.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from otel_netmon.flight_recorder import Dump, Entry, own_dump
from otel_netmon.guard import log_once

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.job.groups import Group

_logger = logging.getLogger(__name__)

_REMEMBERED: Final = 4096
_NEEDED: Final = 3
"""Entries that have to agree before an offset between the recorder's count and ours is believed."""

_NEAR: Final = 50_000_000
"""Nanoseconds between an entry's creation and the call, at most."""


class DeviceTimes:
    """Holds finished device events until the recorder has their end, for ``patience`` seconds at most."""

    def __init__(
        self,
        read: Callable[[str], Dump | None] = own_dump,
        *,
        patience: float = 10.0,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._read = read
        self._patience = int(patience * 1e9)
        self._clock = clock
        self._held: list[CollectiveEvent] = []
        self._entries: dict[tuple[str, int], Entry] = {}
        self._offsets: dict[Group, int] = {}
        self._epoch = time.time_ns() - clock()

    def pass_through(self, events: list[CollectiveEvent], *, last: bool = False) -> list[CollectiveEvent]:
        """Events in, events out: those on the host at once, those on a device when their end is known.

        ``last``: hold nothing back. Never raises.
        """
        ready = []
        for event in events:
            # Without a buffer for its entries the recorder is off, and there is nothing to wait for.
            if event.on_host or event.sequence is None or event.end is None or event.error or not recording():
                ready.append(event)
            else:
                self._held.append(event)
        if self._held:
            self._read_entries()
            ready += self._joined(last)
        return ready

    def boundaries(self) -> list[int]:
        """Of the events held back: their steps are not complete yet."""
        return [event.boundary for event in self._held]

    def _read_entries(self) -> None:
        try:
            for backend in {event.group.serving_backend(on_host=False) for event in self._held}:
                dump = self._read(backend)
                for entry in () if dump is None else dump.entries:
                    if not entry.is_p2p and (entry.duration is not None or entry.discovered_completed is not None):
                        self._entries[entry.group, entry.sequence] = entry
        except Exception as error:  # noqa: BLE001 - a torch whose recorder is another: law 1
            log_once(_logger, error, "otel-netmon: the Flight Recorder cannot be read; device times are absent")
        while len(self._entries) > _REMEMBERED:
            del self._entries[next(iter(self._entries))]

    def _joined(self, last: bool) -> list[CollectiveEvent]:
        ready: list[CollectiveEvent] = []
        kept: list[CollectiveEvent] = []
        now = self._clock()
        for event in self._held:
            entry = self._entry_of(event)
            if entry is not None:
                note_device_time(event, entry)
            done = entry is not None or last or now - event.start > self._patience
            (ready if done else kept).append(event)
        self._held = kept
        return ready

    def _entry_of(self, event: CollectiveEvent) -> Entry | None:
        offset = self._offset(event.group)
        if offset is None or event.sequence is None:
            return None
        entry = self._entries.get((event.group.name, event.sequence + offset))
        return entry if entry is not None and self._fits(event, entry) else None

    def _fits(self, event: CollectiveEvent, entry: Entry) -> bool:
        """The same operation, recorded while the call was made."""
        apart = entry.created - event.start - self._epoch
        return entry.operation == event.operation.name and -_NEAR < apart < _NEAR + (event.end or 0) - event.start

    def _offset(self, group: Group) -> int | None:
        """How far the recorder's count is ahead of ours: 0, unless we were switched on late.

        Believed when everything that is held fits it, and nothing else does.
        """
        known = self._offsets.get(group)
        if known is not None:
            return known
        events = {event.sequence: event for event in self._held if event.group is group}
        theirs = {number: entry for (name, number), entry in self._entries.items() if name == group.name}
        fitting: dict[int, int] = {}
        for offset in {number - sequence for number in theirs for sequence in events if sequence is not None}:
            pairs = [(e, theirs[s + offset]) for s, e in events.items() if s is not None and s + offset in theirs]
            if offset >= 0 and all(self._fits(event, entry) for event, entry in pairs):
                fitting[offset] = len(pairs)
        if 0 in fitting or (len(fitting) == 1 and max(fitting.values()) >= _NEEDED):
            self._offsets[group] = 0 if 0 in fitting else next(iter(fitting))
        return self._offsets.get(group)


def note_device_time(event: CollectiveEvent, entry: Entry) -> None:
    """Set how long ``event`` took on the device, or a bound for that, as far as the recorder has it."""
    if entry.duration is not None:
        event.device_duration = int(entry.duration * 1e9)
    elif entry.discovered_completed is not None:
        event.device_bound = max(0, entry.discovered_completed - entry.created)


def recording() -> bool:
    """Whether torch's Flight Recorder has a buffer in this process, as it has by default."""
    older = os.environ.get("TORCH_NCCL_TRACE_BUFFER_SIZE", "on")
    return os.environ.get("TORCH_FR_BUFFER_SIZE", older).strip() not in ("", "0")
