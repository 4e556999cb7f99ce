"""What gloo's Flight Recorder makes of a collective: it knows fewer operations than PyTorch, and misses some."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

UNRECORDED = frozenset({"send", "recv", "monitored_barrier"})
"""It has no entry for these."""

_AS = {
    "all_gather_into_tensor": "all_gather",
    "all_gather_into_tensor_coalesced": "all_gather",
    "all_to_all_single": "all_to_all",
    "reduce_scatter_tensor": "all_reduce",  # gloo makes it of one
    "all_reduce_coalesced": "all_reduce",
    "reduce_scatter_tensor_coalesced": "all_reduce",
}


def entries_of(span: Any, *, is_sparse: bool = False) -> dict[tuple[str, str], int]:
    """The entries, by group and operation, that one span of ours stands for."""
    attributes = span["attributes"]
    name, group = span["name"], attributes["torch.distributed.group.name"]
    if name in UNRECORDED:
        return {}
    if name == "reduce_scatter":  # gloo makes it of an all_reduce for each rank
        return {(group, "all_reduce"): attributes["torch.distributed.group.size"]}
    return {(group, "sparse_all_reduce" if is_sparse else _AS.get(name, name)): 1}


def in_spans(spans: Iterable[Any]) -> Counter[tuple[str, str]]:
    """The entries that ``spans`` stand for."""
    counted: Counter[tuple[str, str]] = Counter()
    for span in spans:
        counted.update(entries_of(span))
    return counted


def in_entries(entries: Iterable[Any]) -> Counter[tuple[str, str]]:
    """The entries themselves, by group and operation."""
    return Counter((e["process_group"][0], e["profiling_name"].removeprefix("gloo:")) for e in entries)
