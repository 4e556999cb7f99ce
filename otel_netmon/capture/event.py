"""One collective as it was recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otel_netmon.text import bounded

if TYPE_CHECKING:
    from otel_netmon.capture.operations import Operation
    from otel_netmon.job.groups import Group


@dataclass(slots=True, eq=False)
class CollectiveEvent:
    """One call of one collective on this rank. Times are nanoseconds of the monotonic clock. Compared by
    identity."""

    operation: Operation
    group: Group
    start: int
    boundary: int
    """How many step boundaries had passed: which step it belongs to is worked out later."""
    size: int = 0
    """Bytes of the buffer; see ``operations``. Of a sparse tensor its values: no formula counts the indices."""
    dtype: Any = None
    """torch's; ``None`` when there is no tensor, or tensors of several types."""
    sequence: int | None = None
    """Its number among the collectives of its group, from 1; ``None`` between two ranks."""
    is_async: bool | None = None
    is_even: bool = True
    """False for unequal splits, for which there is no bus bandwidth."""
    on_host: bool = True
    """False when the tensors are on a device: then ``end`` is not when the transfer ended."""
    reduce_op: str | None = None
    """Its name; ``None`` where the backend does not know it."""
    end: int | None = None
    """``None`` while in flight."""
    error: str | None = None
    """Class of the failure; ``None`` on success."""
    is_late: bool = False
    """True when the completion was noticed some time after it happened: ``end`` is then only a bound."""
    is_unseen: bool = False
    """True while the end cannot be seen: no future, and nobody waits (gloo's sends and receives)."""
    span_id: int = 0
    """Id of its span, where that had to be named before it was made; 0 elsewhere."""
    device_duration: int | None = None
    """Nanoseconds on the device, where it was timed."""
    device_bound: int | None = None
    """Nanoseconds within which it ended on the device, where only that is known."""
    future: Any = None
    """torch's future that completes with it, while in flight."""

    @property
    def duration(self) -> int | None:
        """How long the collective took, in nanoseconds; ``None`` where that is not known.

        On a device the host's times are of the call that enqueued it, and not of the transfer.
        """
        if self.device_duration is not None:
            return self.device_duration
        if self.end is None or self.is_late or not self.on_host:
            return None
        return self.end - self.start


def error_type(error: BaseException) -> str:
    """The class of ``error`` as ``error.type`` has it: qualified, unless it is a builtin."""
    cls = type(error)
    return bounded(cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}")
