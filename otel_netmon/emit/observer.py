"""Who is told what this rank does, besides OpenTelemetry: the live diagnosis, if there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.job.groups import Group
    from otel_netmon.records import RankStep


class Observer(Protocol):
    """Its methods are called by the thread that makes spans; they do not wait and do no I/O."""

    def step(self, record: RankStep, trace_id: int, span_id: int) -> None:
        """A step, complete or not; the trace that all ranks have it in, and this rank's span."""
        ...

    def standing(
        self,
        at: int,
        opened: int,
        in_flight: Sequence[CollectiveEvent],
        issued: dict[Group, int],
        ended: dict[Group, int],
    ) -> None:
        """Where it is: since when the step is open (0: not known), what was in flight ``at`` that time, and the
        last numbers issued and ended on each group."""
        ...
