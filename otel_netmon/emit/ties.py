"""How the collectives of foreign groups are tied together over their members: by the group's name and numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from otel_netmon.job import identity

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveEvent


class Tie(NamedTuple):
    """Where the span of one stands: each collective is a trace of its own, of which the span of the group's first
    rank is the root."""

    trace_id: int
    root_id: int
    is_root: bool
    number: int
    """From 0."""


def tied_by_group(event: CollectiveEvent) -> Tie | None:
    """Of an event of a foreign group; ``None`` where the step ties it to those of the other ranks."""
    group, number = event.group, event.sequence
    run_id = None if group.run_id is None else group.run_id.value
    if run_id is None or number is None:
        return None
    key = f"{group.name} {number}"
    return Tie(identity.trace_id(run_id, key), identity.root_id(run_id, key), group.rank == 0, number - 1)
