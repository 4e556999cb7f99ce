"""What we know of each process group, worked out once per group rather than once per call."""

from __future__ import annotations

import itertools
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from otel_netmon import threads
from otel_netmon.guard import guarded
from otel_netmon.internals.torch_internals import backend_name, registered_name, registered_size
from otel_netmon.text import bounded

if TYPE_CHECKING:
    from otel_netmon.job.identity import RunId
    from otel_netmon.job.job import Job, SharedCount

_I = TypeVar("_I", bound=Iterator[int])

_MOST_NAMES: Final = 1024
_SAME_NAME: Final = 16
"""Groups that are remembered by one name, and names: a process may make and destroy groups all the time."""


@dataclass(eq=False)
class Group:
    """A process group: ``name`` as torch has it (``0`` is the default group), ``size`` and this ``rank`` in it.

    Where torch does not know them, the size is 0 and the rank -1. Compared by identity: names are used again.
    """

    name: str
    size: int
    rank: int
    backend: str
    """The backend that serves tensors in host memory."""
    _place: Callable[[Group], None] | None = None
    """Sets ``job`` and what goes with it."""
    device_backend: str | None = None
    """The backend that serves tensors on a device, once there was one."""
    p2p_has_futures: bool = True
    """Whether the works of sends and receives have futures; gloo's have none, as the first one shows."""
    job: Job | None = None
    """The job that it is in, from its first collective on."""
    run_id: RunId | None = None
    """Of a foreign group: what the ids of its members' traces are made of."""
    begun: SharedCount | None = None
    """What counts its collectives, if all ranks of the job take part in them."""

    def __post_init__(self) -> None:
        self._counter: Iterator[int] = itertools.count(1)

    def serving_backend(self, on_host: bool) -> str:
        """Name of the backend that serves tensors on the host, or on a device."""
        return self.backend if on_host else self.device_backend or self.backend

    def placed(self) -> None:
        """Have ``job`` set. At the first call of the group: the default group is set by then."""
        place, self._place = self._place, None
        if place is not None:
            guarded(place, self)

    def count_with(self, make: Callable[[int], _I]) -> _I:
        """Go on with another iterator, which is made with the next number; it is given back."""
        counter = make(next(self._counter))
        self._counter = counter
        return counter

    def next_sequence(self) -> int:
        """Number of the collective that starts now, from 1.

        Every rank makes the same collectives on a group in the same order, so the number is the same on all of
        them. The backend's own counter is not: gloo's counts sends and receives too.
        """
        if self._place is not None:
            self.placed()
        if self.begun is not None:
            self.begun.value = next(self.begun.count)
        return next(self._counter)


def backend_of(process_group: Any, device_type: str) -> str:
    """Name of the backend that serves ``device_type`` in ``process_group``; the group's own where none does."""
    return (
        first_known(lambda: _text(backend_name(process_group, device_type)), lambda: _text(process_group.name()))
        or "undefined"
    )


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def first_known(*ways: Callable[[], Any]) -> Any:
    """What the first way gives that gives something. Any may raise: a group written in Python is anybody's
    code."""
    for way in ways:
        try:
            found = way()
        except Exception:  # noqa: BLE001, S112 - the next way, see above
            continue
        if found is not None and found != "":
            return found
    return None


class Groups:
    """The groups seen so far, found by identity; groups that torch released can still be found by name.

    ``place`` is called with torch's group (``None`` where it is gone) and ours, at its first collective.
    """

    def __init__(self, place: Callable[[Any, Group], None] | None = None) -> None:
        self._place = place
        self._unnamed = itertools.count(1)
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """The parent's groups are the parent's."""
        self._lock = threads.RLock()
        self._known: dict[int, tuple[weakref.ref[Any], Group]] = {}
        self._by_name: dict[str, deque[tuple[int, Group]]] = {}
        """With the time when each was first seen, in ns since the epoch; a name may be used again."""

    def of(self, process_group: Any) -> Group:
        """The group of torch's ``ProcessGroup``: a dict look-up after the first call. What the object lacks costs
        that alone."""
        entry = self._known.get(id(process_group))
        if entry is not None and entry[0]() is process_group:
            return entry[1]
        return self._add(process_group)

    def _add(self, process_group: Any) -> Group:
        name = first_known(lambda: _text(process_group.group_name), lambda: _text(registered_name(process_group)))
        size = first_known(lambda: int(process_group.size()), lambda: registered_size(process_group))
        rank = first_known(lambda: int(process_group.rank()))
        ref, place = weakref.ref(process_group), self._place
        group = Group(
            bounded(name or f"unnamed-{next(self._unnamed)}"),
            0 if size is None else size,
            -1 if rank is None else rank,
            bounded(backend_of(process_group, "cpu")),
            None if place is None else lambda group: place(ref(), group),
        )
        with self._lock:
            for key in [key for key, (known, _) in self._known.items() if known() is None]:
                del self._known[key]
            self._known[id(process_group)] = ref, group
            self._remember(group, time.time_ns())
        return group

    def _remember(self, group: Group, since: int) -> None:
        self._by_name.setdefault(group.name, deque(maxlen=_SAME_NAME)).append((since, group))
        if len(self._by_name) > _MOST_NAMES:
            del self._by_name[next(iter(self._by_name))]

    def named(self, name: str, at: int, backend: str) -> Group:
        """The group that had ``name`` at ``at``, in ns since the epoch. Of one that was never seen only its name
        and ``backend`` are known."""
        with self._lock:
            if name not in self._by_name:
                self._remember(Group(name, 0, -1, backend), 0)
            named = self._by_name[name]
            return next((group for since, group in reversed(named) if since <= at), named[0][1])

    def place_all(self) -> list[RunId]:
        """Have all groups placed, while the default group is there; the ids of those that are foreign."""
        with self._lock:
            groups = [group for ref, group in self._known.values() if ref() is not None]
        for group in groups:
            group.placed()
        return [group.run_id for group in groups if group.run_id is not None]
