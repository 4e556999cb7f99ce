"""Who this process is in the job."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from otel_netmon import runtime, semconv


@dataclass(frozen=True)
class RankIdentity:
    """This process in the job; what is not known is ``None``."""

    rank: int = 0
    local_rank: int | None = None
    world_size: int | None = None


def rank_attributes(rank: RankIdentity) -> dict[str, Any]:
    """``rank`` as span attributes, without what is not known."""
    pairs = (
        (semconv.RANK, rank.rank),
        (semconv.LOCAL_RANK, rank.local_rank),
        (semconv.WORLD_SIZE, rank.world_size),
    )
    return {name: value for name, value in pairs if value is not None}


def default_group() -> tuple[RankIdentity, Any]:
    """This process in the job and the store of the default group; by the environment where there is none."""
    from torch.distributed import distributed_c10d as c10d

    environment = runtime.environment_rank(os.environ)
    local_rank = environment.local_rank if environment else None
    if c10d.is_initialized():
        rank = RankIdentity(c10d.get_rank(), local_rank, c10d.get_world_size())
        return rank, c10d._get_default_store()
    if environment is not None:
        return RankIdentity(environment.rank, local_rank, environment.world_size), None
    return RankIdentity(), None
