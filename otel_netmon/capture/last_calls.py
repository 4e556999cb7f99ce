"""The collectives that Python records, in the black box: what a process that is killed was at.

On the training thread: three stores into mapped memory for each collective.
"""

from __future__ import annotations

import struct
from functools import partial
from itertools import count, cycle
from typing import TYPE_CHECKING, Any, Final

from otel_netmon.black_box import layout
from otel_netmon.capture.operations import OPERATION_NUMBERS

if TYPE_CHECKING:
    from otel_netmon.black_box.box import Box
    from otel_netmon.capture.event import CollectiveKind
    from otel_netmon.job.groups import Group

_CALL: Final = struct.Struct("<qqq32s")
"""A record behind its ticket: start, end, sequence, and all that its kind says, with no boundary and no error."""
_KIND: Final = struct.Struct("<QQIBbbBQ")
END: Final = 1
OUTCOME: Final = 6
"""Words behind the start."""
_PYTHONS: Final = 1 << 31
"""Numbers of groups from here on are given here, those below by the native capture."""


class Cells:
    """Where the ring writes an event when it begins, and when it ends. Two threads may do so at once: each record
    is written by one call, under Python's lock."""

    def __init__(self, box: Box) -> None:
        first = layout.CALLS_AT + 8
        self.following = cycle(range(first, first + layout.CALLS * layout.CALL.size, layout.CALL.size)).__next__
        """The place of the next record, in bytes."""
        self.pack = partial(_CALL.pack_into, box.memory)
        """Takes that, start, end, sequence, and the bytes of a kind."""
        self.words: Any = memoryview(box.memory).cast("q")
        self._box = box
        self._groups: dict[Group, int] = {}
        self._numbers = count(_PYTHONS)

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
