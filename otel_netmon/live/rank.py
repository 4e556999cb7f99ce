"""What this rank knows of itself, gathered for its digests. Times are of its monotonic clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from otel_netmon.diagnosis.evidence import CallSeen
from otel_netmon.diagnosis.steps import sample_of
from otel_netmon.job import identity
from otel_netmon.job.groups import Group
from otel_netmon.live.digest import MOST_CALLS, MOST_GROUPS, DigestedCall, GroupHead
from otel_netmon.live.outbox import Outbox, Standing
from otel_netmon.records import HostTraffic, PeerTraffic, RankStep

_HANGS: Final = 2_000_000_000
"""Nanoseconds in flight from which on a call is told one by one."""
_REMEMBERED: Final = 128


class CallLike(Protocol):
    """A call in flight."""

    start: int

    @property
    def group(self) -> Group: ...

    @property
    def sequence(self) -> int | None: ...

    @property
    def size(self) -> int: ...

    @property
    def operation(self) -> object: ...


class _Now(NamedTuple):
    at: int = 0
    """When that was."""
    opened: int = 0
    in_flight: Sequence[CallLike] = ()
    issued: Mapping[Group, int] = {}
    ended: Mapping[Group, int] = {}


class OwnRank:
    """An ``emit.observer.Observer``: told by the thread that makes spans, read by the one that tells others."""

    def __init__(
        self, rank: int, world_size: int, host: str, throttled: Callable[[], int | None] = lambda: None
    ) -> None:
        """``throttled`` gives nanoseconds, see ``Digest``."""
        clock = time.monotonic_ns
        self.outbox = Outbox(rank, world_size, host, clock=clock, standing=self._standing, throttled=throttled)
        self._now = _Now()
        self._spans: dict[int, tuple[int, int]] = {}

    def step(self, record: RankStep, trace_id: int, span_id: int) -> None:
        """A step, complete or not."""
        if record.step is None or record.incomplete:
            return
        self._spans[record.step] = trace_id, span_id
        if len(self._spans) > _REMEMBERED:
            del self._spans[next(iter(self._spans))]
        self.outbox.step(record.step, identity.tie_of(trace_id), sample_of(record))

    def traffic(self, readings: Iterable[PeerTraffic]) -> None:
        """Readings of this rank's connections."""
        self.outbox.traffic(readings)

    def nics(self, readings: Iterable[HostTraffic]) -> None:
        """Readings of the NICs that it uses."""
        self.outbox.nics(readings)

    def standing(
        self,
        at: int,
        opened: int,
        in_flight: Sequence[CallLike],
        issued: Mapping[Group, int],
        ended: Mapping[Group, int],
    ) -> None:
        """Where it was at that time; what is given is kept, and may change."""
        self._now = _Now(at, opened, in_flight, issued, ended)

    def span_of(self, step: int | None) -> tuple[int, int] | None:
        """The trace and the span of this rank's step of that number, or of the last one before."""
        known = list(self._spans.items())
        return next((ids for number, ids in reversed(known) if step is None or number <= step), None)

    def _standing(self) -> Standing:
        now = self._now  # of then: a call that was in flight may have ended since
        groups = list(now.issued.items())[-MOST_GROUPS:]
        hanging = sorted(
            (call for call in now.in_flight if now.at - call.start > _HANGS and call.sequence is not None),
            key=lambda call: call.start,
        )
        return Standing(
            now.opened or None,
            tuple(GroupHead(group.name, group.size, last, now.ended.get(group, -1)) for group, last in groups),
            tuple(_digested(call) for call in hanging[:MOST_CALLS]),
        )


def _digested(call: CallLike) -> DigestedCall:
    name = str(getattr(call.operation, "name", call.operation))
    return DigestedCall(call.group.name, call.sequence or 0, CallSeen(name, call.size, call.start, None))
