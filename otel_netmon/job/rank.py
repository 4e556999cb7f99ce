"""Who a process is in its job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from otel_netmon import semconv


@dataclass(frozen=True)
class RankIdentity:
    """A rank in its job; what is not known is ``None``."""

    rank: int | None = 0
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
