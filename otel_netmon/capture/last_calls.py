"""The collectives that Python records, in the black box: what a process that is killed was at.

On the training thread: one store into mapped memory when a collective begins, 0.2 to 0.5 µs. Its end would cost as
much again, so the background notes it a little later: of the last ones it is not known whether they ended.
"""

from __future__ import annotations

import struct
from functools import partial
from itertools import count, cycle
from typing import TYPE_CHECKING, Any, Final

from otel_netmon.black_box import layout
from otel_netmon.capture.operations import OPERATION_NUMBERS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otel_netmon.black_box.box import Box
    from otel_netmon.capture.event import CollectiveEvent, CollectiveKind
    from otel_netmon.job.groups import Group

_CALL: Final = struct.Struct("<q8xq32s")
"""A record behind its ticket: start, no end, sequence, no boundary, and all that its kind says, with no error."""
_END: Final = 1
_OUTCOME: Final = 6
"""Words behind the start."""
_KIND: Final = struct.Struct("<QQIBbbBQ")
_PYTHONS: Final = 1 << 31
"""Numbers of groups from here on are given here, those below by the native capture."""


class Cells:
    """Where the recorder writes a call. Two threads may do so at once: a record is written by one call."""

    def __init__(self, box: Box) -> None:
        first = layout.CALLS_AT + 8
        self.following = cycle(range(first, first + layout.CALLS * layout.CALL.size, layout.CALL.size)).__next__
        """The place of the next record, in bytes."""
        self.pack = partial(_CALL.pack_into, box.memory)
        """Takes that, start, sequence, and the bytes of a kind."""
        self._words: Any = memoryview(box.memory).cast("q")
        self._box = box
        self._groups: dict[Group, int] = {}
        self._numbers = count(_PYTHONS)

    def ended(self, events: Iterable[CollectiveEvent]) -> None:
        """Note the ends of those that are still here. Called in the background."""
        words = self._words
        for event in events:
            cell = event.at >> 3
            if cell and event.end is not None and words[cell] == event.start:
                words[cell + _END] = event.end
                if event.error is not None:
                    words[cell + _OUTCOME] = 1

    def packed(self, kind: CollectiveKind) -> bytes:
        """The bytes of a kind, which keeps them; its group has a name in the box from then on."""
        number = self._groups.get(kind.group)
        if number is None:
            if len(self._groups) >= layout.MOST_GROUPS:
                del self._groups[next(iter(self._groups))]
            number = self._groups[kind.group] = next(self._numbers)
            self._box.name_group(number, kind.group.name)
        kind.packed = _KIND.pack(0, kind.size, number, OPERATION_NUMBERS[kind.operation], -1, -1, 0, 0)
        return kind.packed
