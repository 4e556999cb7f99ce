"""The stores of torch's process groups, through which the ranks of a job tell one another things."""

from __future__ import annotations

import logging
import weakref
from typing import Any, Final

from otel_netmon.internals.torch_internals import registered_groups

_logger = logging.getLogger(__name__)

MAX_VALUE: Final = 1024
"""Bytes of a value that are read: others may have written it."""
_MOST_PREFIXES: Final = 16


class JobStore:
    """One group's store. Nothing here raises, and nothing waits for another rank.

    A blocking ``get`` would hold the client's lock, and with it any operation of the training: so a key is read
    only after ``check`` found it. Each call is a round trip to the store's server. Once one has failed (the store
    is gone, as at the end of a job), no other is tried: so this is made anew for each use.
    """

    def __init__(self, store: Any) -> None:
        self._store = store
        self._base = store
        for _ in range(_MOST_PREFIXES):
            if not hasattr(self._base, "underlying_store"):
                break
            self._base = self._base.underlying_store
        self.answers = True
        """Whether no call has failed."""

    def read(self, key: str) -> str | None:
        """What was written under ``key``; ``None`` where nothing was, or the store does not answer."""
        value = self._call(self._store, "get", key) if self._call(self._store, "check", [key]) else None
        return None if value is None else value[:MAX_VALUE].decode("utf-8", "replace")

    def write(self, key: str, value: str) -> bool:
        """Write ``value``; whether that is done."""
        self._call(self._store, "set", key, value)
        return self.answers

    def write_once(self, key: str, value: str) -> str:
        """Write ``value`` below all prefixes, unless there is one already; the one that is there then."""
        kept: bytes | None = self._call(self._base, "compare_set", key, "", value)
        return (kept or b"")[:MAX_VALUE].decode("utf-8", "replace") or value

    def _call(self, store: Any, method: str, *args: Any) -> Any:
        if not self.answers:
            return None
        try:
            return getattr(store, method)(*args)
        except Exception as error:  # noqa: BLE001 - a store that died: law 1
            self.answers = False
            _logger.debug("otel-netmon: the job's store does not answer; asking again later: %r", error)
            return None

    @property
    def client(self) -> Any:
        """torch's own, prefixes included."""
        return self._store

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of a TCP store; ``None`` for one of another kind."""
        host, port = getattr(self._base, "host", None), getattr(self._base, "port", None)
        return (host, port) if isinstance(host, str) and isinstance(port, int) and 0 < port < 65536 else None

    def is_same_as(self, other: JobStore) -> bool:
        """Whether both are the same store below their prefixes, perhaps by two clients."""
        place = self.address or getattr(self._base, "path", None)
        return self._base is other._base or (
            type(self._base) is type(other._base)
            and place is not None
            and place == (other.address or getattr(other._base, "path", None))
        )


def default_group() -> Any:
    """torch's default group; ``None`` where there is none."""
    from torch.distributed import group

    return group.WORLD


def store_of(group: weakref.ref[Any]) -> JobStore | None:
    """The store of a group, as long as torch knows it. Nothing is kept: a store goes with its group."""
    process_group = group()
    entry = None if process_group is None else registered_groups().get(process_group)
    return None if entry is None or entry[1] is None else JobStore(entry[1])
