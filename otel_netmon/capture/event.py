"""One collective as it was recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from otel_netmon.text import bounded

if TYPE_CHECKING:
    from otel_netmon.capture.operations import Operation
    from otel_netmon.job.groups import Group


class CollectiveEvent:
    """One call of one collective on this rank. Times are nanoseconds of the monotonic clock."""

    __slots__ = (
        "boundary",
        "device_bound",
        "device_duration",
        "dtype",
        "end",
        "error",
        "future",
        "group",
        "is_async",
        "is_even",
        "is_late",
        "is_unseen",
        "on_host",
        "operation",
        "reduce_op",
        "sequence",
        "size",
        "span_id",
        "start",
    )

    def __init__(  # noqa: PLR0917 - by position: this runs for every collective
        self,
        operation: Operation,
        group: Group,
        start: int,
        boundary: int,
        size: int = 0,
        dtype: Any = None,
        sequence: int | None = None,
        is_async: bool | None = None,
        is_even: bool = True,
        on_host: bool = True,
        reduce_op: str | None = None,
    ) -> None:
        self.operation = operation
        self.group = group
        self.start = start
        self.boundary = boundary
        """How many step boundaries had passed: which step it belongs to is worked out later."""
        self.size = size
        """Bytes of the buffer; see ``operations``. Of a sparse tensor its values: no formula counts the
        indices."""
        self.dtype = dtype
        """torch's; ``None`` when there is no tensor, or tensors of several types."""
        self.sequence = sequence
        """Its number among the collectives of its group, from 1; ``None`` between two ranks."""
        self.is_async = is_async
        self.is_even = is_even
        """False for unequal splits, for which there is no bus bandwidth."""
        self.on_host = on_host
        """False when the tensors are on a device: then ``end`` is not when the transfer ended."""
        self.reduce_op = reduce_op
        """Its name; ``None`` where the backend does not say."""
        self.end: int | None = None
        """``None`` while in flight."""
        self.error: str | None = None
        """Class of the failure; ``None`` on success."""
        self.is_late = False
        """True when the completion was noticed some time after it happened: ``end`` is then only a bound."""
        self.is_unseen = False
        """True while nothing can tell of the end: no future, and nobody waits (gloo's sends and receives)."""
        self.span_id = 0
        """Id of its span, where that had to be named before it was made; 0 elsewhere."""
        self.device_duration: int | None = None
        """Nanoseconds on the device, where it was timed."""
        self.device_bound: int | None = None
        """Nanoseconds within which it ended on the device, where only that is known."""
        self.future: Any = None
        """torch's future that tells of the completion, while in flight."""

    @property
    def duration(self) -> int | None:
        """How long the collective took, in nanoseconds; ``None`` where that is not known.

        On a device the host's times are of the call that enqueued it, and tell nothing of the transfer.
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
