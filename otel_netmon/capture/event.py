"""One collective as it was recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from otel_netmon.text import bounded

if TYPE_CHECKING:
    from otel_netmon.capture.operations import Operation
    from otel_netmon.job.groups import Group

_MOST_KINDS: Final = 4096
_MOST_SAID: Final = 1024
"""Characters of what an error says that are looked at."""


@dataclass(slots=True, eq=False)
class CollectiveKind:
    """What many collectives have in common. Compared by identity: there is one object for many events."""

    operation: Operation
    group: Group
    size: int = 0
    """Bytes of the buffer; see ``operations``. Of a sparse tensor its values: no formula counts the indices."""
    dtype: Any = None
    """torch's; ``None`` when there is no tensor, or tensors of several types."""
    is_async: bool | None = None
    is_even: bool = True
    """False for unequal splits, for which there is no bus bandwidth."""
    on_host: bool = True
    """False when the tensors are on a device: then ``end`` is not when the transfer ended."""
    reduce_op: str | None = None
    """Its name; ``None`` where the backend does not know it."""
    is_waited_for: bool = field(init=False)
    """Whether the caller is to wait for the work at once: then the return of the wait is the end."""
    about: Any = None
    """What whoever reads events keeps with their kind."""
    packed: bytes | None = None
    """The same as the black box has it, once there was one."""

    def __post_init__(self) -> None:
        self.is_waited_for = self.on_host and self.is_async is False


_Key = TypeVar("_Key")


class KindTable(dict[_Key, CollectiveKind]):
    """The kinds seen so far, by what they are known by. A full one begins anew: sizes may differ with every call.

    Used by any thread without a lock: two at once may make two objects of one kind, which costs but memory.
    """

    def add(self, key: _Key, kind: CollectiveKind) -> CollectiveKind:
        if len(self) >= _MOST_KINDS:
            self.clear()
        self[key] = kind
        return kind


class Kinds(KindTable["tuple[Any, ...]"]):
    """By the arguments that ``CollectiveKind`` takes: a look-up makes those that are new."""

    def __missing__(self, key: tuple[Any, ...]) -> CollectiveKind:
        return self.add(key, CollectiveKind(*key))


class _Rare:
    """What most events never have: setting it would take a third of the time that one costs."""

    __slots__ = ()

    error: str | None = None
    """Class of the failure; ``None`` on success."""
    error_message: str | None = None
    """What it says, where that is known and asked for."""
    is_late = False
    """True when the completion was noticed some time after it happened: ``end`` is then only a bound."""
    is_unseen = False
    """True while the end cannot be seen: no future, and nobody waits (gloo's sends and receives)."""
    at = 0
    """Where it stands in the black box; 0: it does not."""
    span_id = 0
    """Id of its span, where that had to be named before it was made; 0 elsewhere."""
    device_duration: int | None = None
    """Nanoseconds on the device, where it was timed."""
    device_bound: int | None = None
    """Nanoseconds within which it ended on the device, where only that is known."""


class CollectiveEvent(_Rare):
    """One call of one collective on this rank. Times are nanoseconds of the monotonic clock. Compared by
    identity."""

    __slots__ = ("__dict__", "boundary", "end", "future", "kind", "sequence", "start")

    def __init__(self, kind: CollectiveKind, start: int, boundary: int, sequence: int | None = None) -> None:
        self.end: int | None = None
        """``None`` while in flight."""
        self.future: Any = None
        """torch's future that completes with it, while in flight."""
        self.kind = kind
        self.start = start
        self.boundary = boundary
        """How many step boundaries had passed: which step it belongs to is worked out later."""
        self.sequence = sequence
        """Its number among the collectives of its group, from 1; ``None`` between two ranks."""

    @property
    def operation(self) -> Operation:
        return self.kind.operation

    @property
    def group(self) -> Group:
        return self.kind.group

    @property
    def size(self) -> int:
        return self.kind.size

    @property
    def is_async(self) -> bool | None:
        return self.kind.is_async

    @property
    def on_host(self) -> bool:
        return self.kind.on_host

    @property
    def duration(self) -> int | None:
        """How long the collective took, in nanoseconds; ``None`` where that is not known.

        On a device the host's times are of the call that enqueued it, and not of the transfer.
        """
        if self.device_duration is not None:
            return self.device_duration
        if self.end is None or self.is_late or not self.kind.on_host:
            return None
        return self.end - self.start


class Failure(NamedTuple):
    """Why a collective failed."""

    type: str
    """As ``error.type`` has it."""
    message: str | None = None


def failure_of(error: BaseException) -> Failure:
    """Its class, qualified unless it is a builtin, and what it says."""
    cls = type(error)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 - somebody's own class
        said = ""
    return Failure(bounded(name), message_in(said))


def message_in(said: str) -> str | None:
    """What an error says, without the stack that C++ put below it; bounded."""
    return bounded(" ".join(said.partition("\nException raised from ")[0][:_MOST_SAID].split())) or None
