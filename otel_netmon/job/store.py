"""The stores of torch's process groups: found here, and nowhere else."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Final

_MOST_PREFIXES: Final = 16


def default_group() -> Any:
    """torch's default group; ``None`` where there is none."""
    from torch.distributed import distributed_c10d as c10d

    return getattr(getattr(c10d, "GroupMember", None), "WORLD", None)


def all_groups() -> Any:
    """torch's table of its process groups: group to backend and store; empty where this torch has none."""
    from torch.distributed import distributed_c10d as c10d

    return getattr(getattr(c10d, "_world", None), "pg_map", {})


def store_of(ref: weakref.ref[Any]) -> Callable[[], Any]:
    """What gives the store of a group as long as torch knows it. Nothing is kept: a store goes with its group."""

    def store() -> Any:
        group = ref()
        entry = None if group is None else all_groups().get(group)
        return None if entry is None else entry[1]

    return store


def base_store(store: Any) -> Any:
    """The store below all prefixes."""
    for _ in range(_MOST_PREFIXES):
        if not hasattr(store, "underlying_store"):
            break
        store = store.underlying_store
    return store


def place_of(store: Any) -> Any:
    """Host and port, or the file, of a store; ``None`` where it has none."""
    if hasattr(store, "host") and hasattr(store, "port"):
        return store.host, store.port
    return getattr(store, "path", None)
