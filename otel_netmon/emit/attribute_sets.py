"""What is the same for all collectives of one operation on one group."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from otel_netmon import semconv
from otel_netmon.bandwidth import bus_factor
from otel_netmon.job.collective_window import SeriesKey

if TYPE_CHECKING:
    from otel_netmon.capture.event import CollectiveKind
    from otel_netmon.capture.operations import Operation
    from otel_netmon.job.groups import Group
    from otel_netmon.job.roles import RankIdentity

MOST_SERIES: Final = 2000
"""Of an instrument: the SDK's own limit, beyond which it sums up in a series ``otel.metric.overflow``."""


class AttributeSet:
    """What is the same for every event of one operation on one group: attribute dicts are built once."""

    def __init__(self, group: Group, operation: Operation, on_host: bool, rank: RankIdentity) -> None:
        self.rank = rank
        self.operation = operation.name
        self.has_sizes = operation.buffer is not None
        self.backend = group.serving_backend(on_host)
        self.factor = bus_factor(operation.formula, group.size) if operation.formula else None
        self.key = SeriesKey(self.operation, self.backend, group.name)
        self.known: Final = (
            self.operation,
            group.name,
            self.backend,
            group.size if group.size > 0 else None,  # a group need not say
            group.rank if group.rank >= 0 else None,
            rank.rank,
        )
        """The first fields of a ``Collective``."""
        self.metric = {
            str(semconv.COLLECTIVE_NAME): self.operation,
            str(semconv.BACKEND): self.backend,
            str(semconv.GROUP_NAME): group.name,
        }
        self._failed: dict[str, dict[str, str]] = {}

    def metric_attributes(self, error: str | None) -> dict[str, str]:
        if error is None:
            return self.metric
        if error not in self._failed:
            self._failed[error] = {**self.metric, str(semconv.ERROR_TYPE): error}
        return self._failed[error]


class AttributeSets:
    """Those of one rank in one job. Used by one thread."""

    def __init__(self, rank: RankIdentity) -> None:
        self._rank = rank
        self._known: dict[tuple[Group, Operation, bool], AttributeSet] = {}

    def __len__(self) -> int:
        return len(self._known)

    def give(self, kinds: Iterable[CollectiveKind]) -> None:
        """See to it that each of ``kinds`` has its own, of this rank."""
        for kind in kinds:
            if kind.about is None or kind.about.rank is not self._rank:
                kind.about = self.of(kind.group, kind.operation, kind.on_host)

    def of(self, group: Group, operation: Operation, on_host: bool) -> AttributeSet:
        """That of collectives of ``group``, with tensors on the host or not."""
        key = (group, operation, on_host)
        about = self._known.get(key)
        if about is None:
            about = self._known[key] = AttributeSet(group, operation, on_host, self._rank)
            if len(self._known) > MOST_SERIES:  # groups that came and went
                del self._known[next(iter(self._known))]
        return about
