"""Who a process is in its job."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RankIdentity:
    """A rank in its job; what is not known is ``None``."""

    rank: int | None = 0
    local_rank: int | None = None
    world_size: int | None = None
