"""One job: the life of a default group, or, in a process without one, that of the process."""

from __future__ import annotations

import itertools
import secrets
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otel_netmon.job.identity import NONCE, RunId
from otel_netmon.job.slow_steps import SlowSteps
from otel_netmon.job.store import JobStore, store_of

if TYPE_CHECKING:
    from otel_netmon.job.roles import RankIdentity


class SharedCount:
    """How many collectives this rank began on the groups that have all ranks of its job: the same on every rank
    between the same two collectives, whatever else a rank does."""

    def __init__(self) -> None:
        self.count: Iterator[int] = itertools.count(1)
        """Drawn from when one more begins, without a lock; what was drawn is the ``value``."""
        self.value = 0

    def last(self) -> int:
        """How many by now, whoever counts."""
        return int(getattr(self.count, "last", self.value))

    def count_with(self, make: Callable[[int], Iterator[int]]) -> None:
        """Go on with another iterator, which is made with the next number and may know the ``last`` one itself."""
        self.value = self.last()
        self.count = make(self.value + 1)


@dataclass(eq=False)
class Job:
    """One job of this process. Compared by identity."""

    rank: RankIdentity
    run_id: RunId
    world: weakref.ref[Any] | None
    """The default group; ``None`` where there is none."""
    number: int = 0
    """How many this process was in before."""
    ended: bool = False

    def __post_init__(self) -> None:
        self.begun = SharedCount()
        self.slow = SlowSteps()
        self.token = "" if self.rank.rank is not None else secrets.token_hex(8)
        """Identifies this process in its job where no rank does."""

    def store(self) -> JobStore | None:
        """The default group's store, while there is one."""
        return None if self.world is None else store_of(self.world)

    def resolve(self, *, last_call: bool = False) -> str | None:
        """The id of the run, as far as it is known; see ``RunId.resolve``."""
        value = self.run_id.resolve(last_call=last_call)
        return None if value is None else value.partition(NONCE)[0]
