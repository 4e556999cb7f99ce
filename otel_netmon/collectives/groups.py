"""What we know of each process group, worked out once per group rather than once per call."""

from __future__ import annotations

import itertools
import threading
import weakref
from typing import Any

from otel_netmon.text import bounded


class Group:
    """A process group: ``name`` as torch has it (``0`` is the default group), ``size`` and this ``rank`` in it.

    Compared by identity: after a re-initialisation the same name is another group.
    """

    __slots__ = ("__weakref__", "_counter", "backend", "device_backend", "name", "p2p_has_futures", "rank", "size")

    def __init__(self, name: str, size: int, rank: int, backend: str) -> None:
        self.name = name
        self.size = size
        self.rank = rank
        self.backend = backend
        """The backend that serves tensors in host memory."""
        self.device_backend: str | None = None
        """The backend that serves tensors on a device, once there was one."""
        self.p2p_has_futures = True
        """Whether the works of sends and receives have futures; gloo's have none, as the first one tells."""
        self._counter = itertools.count(1)

    def next_sequence(self) -> int:
        """Number of the collective that starts now, from 1.

        Every rank makes the same collectives on a group in the same order, so the number is the same on all of
        them. The backend's own counter is not: gloo's counts sends and receives too.
        """
        return next(self._counter)


def backend_of(process_group: Any, device_type: str) -> str:
    """Name of the backend that serves ``device_type`` in ``process_group``; the group's own where none does."""
    import torch

    try:
        return str(process_group._get_backend(torch.device(device_type)).name())
    except RuntimeError:  # torch's answer when the group has no backend for the device
        return str(process_group.name())


class Groups:
    """The groups seen so far, found by identity. A group that torch let go is let go here too."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._known: dict[int, tuple[weakref.ref[Any], Group]] = {}

    def of(self, process_group: Any) -> Group:
        """The group of torch's ``ProcessGroup`` object. Costs a dict look-up after the first call."""
        entry = self._known.get(id(process_group))
        if entry is not None and entry[0]() is process_group:
            return entry[1]
        return self._add(process_group)

    def _add(self, process_group: Any) -> Group:
        group = Group(
            bounded(str(process_group.group_name)),
            int(process_group.size()),
            int(process_group.rank()),
            backend_of(process_group, "cpu"),
        )
        with self._lock:
            for key in [key for key, (ref, _) in self._known.items() if ref() is None]:
                del self._known[key]
            self._known[id(process_group)] = (weakref.ref(process_group), group)
        return group
