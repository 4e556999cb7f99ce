"""Reads PyTorch's Flight Recorder: its dump files, pickled or JSON, and what this process's own recorder holds.

A dump is hostile input: nothing in it is ever imported, called or built, and its size is limited. Verified with
recorded dumps of NCCL jobs and with gloo's recorder; device durations are unverified on hardware.
"""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

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
    "all_gather_into_tensor_coalesced": "all_gather_into_tensor_coalesced",
    "allgather_into_tensor_coalesced": "all_gather_into_tensor_coalesced",
    "reduce_scatter_tensor_coalesced": "reduce_scatter_tensor_coalesced",
    "sparse_all_reduce": "all_reduce",
}
"""PyTorch's names of what the recorder calls otherwise."""


class FlightRecorderError(ValueError):
    """A dump that cannot be read. The message names the file."""


@dataclass(frozen=True)
class Entry:
    """One call as the recorder has it. Times are nanoseconds since the epoch; ``None`` where it has none."""

    group: str
    """Name of the process group."""
    description: str
    sequence: int
    """The group's count of collectives; for a send or receive, of those."""
    is_p2p: bool
    operation: str
    """By its PyTorch name."""
    backend: str
    state: str
    """``scheduled``, ``started`` or ``completed``, as the watchdog saw it last."""
    retired: bool
    created: int
    discovered_started: int | None
    """When the watchdog noticed the start: later than it was."""
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
    ranks: Mapping[str, tuple[int, ...]]
    """By the name of each group, its global ranks."""
    entries: tuple[Entry, ...]


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
        if data[:1] == b"{":
            return dump_of(json.loads(data))
        return dump_of(_Refusing(io.BytesIO(data)).load())
    except RecursionError as error:
        raise FlightRecorderError(f"{name}: nested too deeply for a Flight Recorder dump") from error
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
    """A dump from its plain data. Raises ``ValueError``, ``KeyError`` or ``TypeError`` where that is not one."""
    if not isinstance(plain, dict) or not isinstance(plain.get("entries", []), list):
        raise TypeError("no dict with a list of entries")
    entries = plain.get("entries", [])
    if len(entries) > MAX_ENTRIES:
        raise ValueError(f"more than {MAX_ENTRIES} entries")
    return Dump(
        version=str(plain["version"])[:32],
        ranks=_ranks(plain.get("pg_config", {})),
        entries=tuple(_entry(entry) for entry in entries),
    )


def _ranks(groups: Any) -> dict[str, tuple[int, ...]]:
    found = {}
    for group in groups.values():
        ranks = group["ranks"]
        found[str(group["name"])[:256]] = tuple(map(int, json.loads(ranks) if isinstance(ranks, str) else ranks))
    return found


def _entry(entry: Any) -> Entry:
    group, description = entry["process_group"]
    backend, colon, operation = str(entry["profiling_name"])[:256].partition(":")
    if not colon:
        backend, operation = "", backend
    is_p2p = bool(entry.get("is_p2p", False))
    operation = operation.split(" ", 1)[0]  # "send 0->1"
    duration = entry.get("duration_ms")
    return Entry(
        group=str(group)[:256],
        description=str(description)[:256],
        sequence=int(entry["p2p_seq_id" if is_p2p else "collective_seq_id"]),
        is_p2p=is_p2p,
        operation=_OPERATIONS.get(operation, operation),
        backend=backend,
        state=str(entry["state"])[:32],
        retired=bool(entry.get("retired", False)),
        created=int(entry["time_created_ns"]),
        discovered_started=_time(entry.get("time_discovered_started_ns")),
        discovered_completed=_time(entry.get("time_discovered_completed_ns")),
        duration=None if duration is None else _positive(float(duration) / 1e3),
        input_sizes=_sizes(entry.get("input_sizes", ())),
        output_sizes=_sizes(entry.get("output_sizes", ())),
        dtypes=tuple(str(each)[:32] for each in (entry.get("input_dtypes") or entry.get("output_dtypes") or ())),
    )


def _time(value: Any) -> int | None:
    return int(value) if value else None  # JSON dumps have 0 where pickled ones have None


def _positive(seconds: float) -> float | None:
    return seconds if 0 <= seconds < float("inf") else None


def _sizes(tensors: Any) -> tuple[tuple[int, ...], ...]:
    if len(tensors) > _MAX_TENSORS or any(len(sizes) > _MAX_DIMENSIONS for sizes in tensors):
        raise ValueError("tensors of too many dimensions")
    return tuple(tuple(map(int, sizes)) for sizes in tensors)


def last_collectives(dumps: Mapping[int, Dump]) -> dict[str, dict[int, int]]:
    """By group, the number of the last collective that each rank has entered; from the dumps by rank."""
    last: dict[str, dict[int, int]] = {}
    for rank, dump in dumps.items():
        for entry in dump.entries:
            if not entry.is_p2p:
                ranks = last.setdefault(entry.group, {})
                ranks[rank] = max(entry.sequence, ranks.get(rank, 0))
    return last


def own_entries(backend: str, seen: int = 0) -> Iterable[Entry]:
    """What this process's recorder for ``backend`` holds, created after ``seen``; nothing where it has none.

    One pass over the recorder: some milliseconds at its default size. Raises what torch raises.
    """
    from torch._C import _distributed_c10d as c10d

    # NCCL has a recorder of its own, all others share one.
    name = "_dump_nccl_trace_json" if backend == "nccl" else "_dump_fr_trace_json"
    dump = getattr(c10d, name, None)
    if dump is None:
        return ()
    entries = dump_of(json.loads(dump(includeCollectives=True, onlyActive=False))).entries
    return tuple(entry for entry in entries if entry.created > seen)
