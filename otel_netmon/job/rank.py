"""Who this process is in the job."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RankIdentity:
    """This process in the job; what is not known is ``None``."""

    rank: int | None = 0
    local_rank: int | None = None
    world_size: int | None = None
