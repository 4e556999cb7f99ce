"""Reads PyTorch's Flight Recorder: its dump files, pickled or JSON, and what this process's own recorder holds.

Every version of the format is read, from the list of torch 2.2 to version 2.10. An entry that cannot be is counted
and left out. A dump is hostile input: nothing in it is ever imported, called or built, and its size is limited.
Verified with recorded dumps of NCCL jobs and with gloo's recorder; device durations are unverified on hardware.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from otel_netmon.internals.torch_internals import flight_recorder_json

_T = TypeVar("_T")

MAX_BYTES: Final = 256 * 2**20
MAX_ENTRIES: Final = 1_000_000
_MAX_TENSORS: Final = 100_000
_MAX_DIMENSIONS: Final = 64

_OPERATIONS: Final = {
    "_all_gather_base": "all_gather_into_tensor",
    "_reduce_scatter_base": "reduce_scatter_tensor",
    "_broadcast_oop": "broadcast",
    "_reduce_oop": "reduce",
    "all_reduce_barrier": "barrier",
    "allreduce_coalesced": "all_reduce_coalesced",
    "allgather_into_tensor_coalesced": "all_gather_into_tensor_coalesced",
    "sparse_all_reduce": "all_reduce",
}
"""PyTorch's names of what the recorder calls otherwise."""


class FlightRecorderError(ValueError):
    """A dump that cannot be read. The message names the file."""


@dataclass(frozen=True)
class Entry:
    """One call as the recorder has it. Times are nanoseconds since the epoch; ``None`` where it has none."""

    number: int | None
    """The recorder's own count of entries, from 0; versions before 1.2 have none."""
    group: str
    """Name of the process group; the recorder's own number of it where it has no name (before version 2)."""
    sequence: int
    """The group's count of collectives; for a send or receive, of those. One count for both before version 2."""
    is_p2p: bool
    operation: str
    """By its PyTorch name."""
    backend: str
    state: str
    """``scheduled``, ``started`` or ``completed``, as the watchdog saw it last; empty where that is unknown."""
    retired: bool
    created: int
    discovered_completed: int | None
    """When the watchdog noticed the end: later than it was."""
    duration: float | None
    """Seconds on the device; only where collective timing was on (``TORCH_NCCL_ENABLE_TIMING``)."""
    input_sizes: tuple[tuple[int, ...], ...]
    output_sizes: tuple[tuple[int, ...], ...]
    dtypes: tuple[str, ...]
    """Of the inputs, or of the outputs where there are none; as the recorder calls them: ``Float``."""


@dataclass(frozen=True)
class Dump:
    """One rank's recorder."""

    version: str
    """Empty for the first format, which has none."""
    ranks: Mapping[str, tuple[int, ...]]
    """By the name of each group, its global ranks."""
    entries: tuple[Entry, ...]
    unread: int = 0
    """Entries, and groups, that could not be read."""


def load(path: Path) -> Dump:
    """Read a dump file. Raises ``FlightRecorderError``, and ``OSError`` where the file cannot be read."""
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise FlightRecorderError(f"{path}: more than {MAX_BYTES} bytes: no Flight Recorder dump is that large")
    return parse(data, str(path))


def parse(data: bytes, name: str = "dump") -> Dump:
    """Read a dump, pickled or JSON. Raises ``FlightRecorderError``; ``name`` is how the message calls it."""
    try:
        plain = json.loads(data) if data.lstrip()[:1] in (b"{", b"[") else _Refusing(io.BytesIO(data)).load()
        dump = dump_of(plain)
        if dump.unread and not dump.entries:
            raise ValueError(f"none of its {dump.unread} entries could be read")
        return dump
    except Exception as error:  # hostile bytes raise whatever they like
        raise FlightRecorderError(
            f"{name}: not a Flight Recorder dump ({type(error).__name__}: {error})"
        ) from error


class _Refusing(pickle._Unpickler):
    """Plain data only. Python's own unpickler, because the one in C allocates what a hostile index asks for."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"refused to import {module}.{name}"[:200])

    def persistent_load(self, pid: Any) -> Any:  # noqa: ARG002 - the interface
        raise pickle.UnpicklingError("refused a persistent id")

    def get_extension(self, code: int) -> Any:
        raise pickle.UnpicklingError(f"refused extension {code}")


def dump_of(plain: Any) -> Dump:
    """A dump from its plain data. Raises ``ValueError`` or ``TypeError`` where that is not one."""
    if isinstance(plain, list) and plain:  # torch 2.2
        plain = {"version": "", "entries": plain}
    if not isinstance(plain, dict) or not isinstance(plain.get("entries", []), list):
        raise TypeError("no dict with a list of entries")
    if not {"version", "entries"} & plain.keys():
        raise ValueError("neither a version nor entries")
    entries, groups = plain.get("entries", []), plain.get("pg_config")
    if len(entries) > MAX_ENTRIES:
        raise ValueError(f"more than {MAX_ENTRIES} entries")
    configured = [_tried(_group, *item) for item in groups.items()] if isinstance(groups, dict) else []
    known = [group for group in configured if group is not None]
    names = {number: name for number, name, _ in known}
    read = [entry for entry in (_tried(_entry, entry, names) for entry in entries) if entry is not None]
    return Dump(
        version=str(plain.get("version", ""))[:32],
        ranks={name: ranks for _, name, ranks in known},
        entries=tuple(read),
        unread=len(entries) - len(read) + len(configured) - len(known),
    )


def _tried(read: Callable[..., _T], *about: Any) -> _T | None:
    """``None`` for what is hostile, damaged, or of a version to come: it alone is not read."""
    try:
        return read(*about)
    except Exception:  # noqa: BLE001 - hostile data raises whatever it likes
        return None


def _group(number: Any, group: Any) -> tuple[str, str, tuple[int, ...]]:
    """The recorder's number of a group, its name, and its ranks, which are all there is before version 2."""
    name, ranks = (group["name"], group["ranks"]) if isinstance(group, dict) else (number, group)
    return (
        str(number)[:256],
        str(name)[:256],
        tuple(map(int, json.loads(ranks) if isinstance(ranks, str) else ranks)),
    )


def _entry(entry: Any, names: Mapping[str, str]) -> Entry:
    backend, colon, operation = str(entry["profiling_name"])[:256].partition(":")
    if not colon:
        backend, operation = "", backend
    operation = operation.split(" ", 1)[0]  # "send 0->1"
    is_p2p = bool(entry.get("is_p2p", operation in ("send", "recv")))
    sequence = entry.get("p2p_seq_id" if is_p2p else "collective_seq_id")
    created = entry.get("time_created_ns")
    duration = entry.get("duration_ms")
    return Entry(
        number=None if entry.get("record_id") is None else int(entry["record_id"]),
        group=_name_of(entry, names),
        sequence=int(entry["seq_id"] if sequence is None else sequence),
        is_p2p=is_p2p,
        operation=_OPERATIONS.get(operation, operation),
        backend=backend,
        state=str(entry.get("state", ""))[:32],
        retired=bool(entry.get("retired", False)),
        created=int(entry["time_created_us"]) * 1000 if created is None else int(created),
        discovered_completed=int(entry.get("time_discovered_completed_ns") or 0) or None,  # JSON dumps have 0
        duration=None if duration is None else _positive(float(duration) / 1e3),
        input_sizes=_sizes(entry.get("input_sizes")),
        output_sizes=_sizes(entry.get("output_sizes")),
        dtypes=tuple(str(each)[:32] for each in (entry.get("input_dtypes") or entry.get("output_dtypes") or ())),
    )


def _name_of(entry: Any, names: Mapping[str, str]) -> str:
    """Of the group; before version 2 there is the recorder's number of it, or its name without a description."""
    group = entry.get("process_group")
    if group is None:
        number = str(entry["pg_id"])[:256]
        group = entry.get("pg_name") or names.get(number, number)
    name, _description = (group, "") if isinstance(group, str) else group
    return str(name)[:256]


def _positive(seconds: float) -> float | None:
    return seconds if 0 <= seconds < float("inf") else None


def _sizes(tensors: Any) -> tuple[tuple[int, ...], ...]:
    if tensors is None:
        return ()
    if len(tensors) > _MAX_TENSORS:
        raise ValueError("too many tensors")
    if tensors and all(isinstance(size, int) for size in tensors):
        tensors = (tensors,)  # of one tensor, not in a list of its own
    if any(len(sizes) > _MAX_DIMENSIONS for sizes in tensors):
        raise ValueError("tensors of too many dimensions")
    return tuple(tuple(map(int, sizes)) for sizes in tensors)


def own_dump(backend: str) -> Dump | None:
    """What this process's recorder for ``backend`` holds; ``None`` where torch has none.

    One pass over the recorder: some milliseconds at its default size. Raises what torch raises.
    """
    dump = flight_recorder_json(backend)
    return None if dump is None else dump_of(json.loads(dump))
