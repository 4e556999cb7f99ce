"""The live diagnosis of one job in this process: what it is told, through what it speaks, how it is said."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Final

from otel_netmon.emit.verdicts import VerdictWriter
from otel_netmon.job import peers
from otel_netmon.live.exchange import Exchange, StoreGone
from otel_netmon.live.rank import OwnRank
from otel_netmon.live.settling import ONCE
from otel_netmon.live.watch import Watch
from otel_netmon.records import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import MeterProvider

    from otel_netmon.diagnosis.finding import Finding
    from otel_netmon.job.job import Job
    from otel_netmon.live.judge import Look
    from otel_netmon.live.settling import Key

_LAST_WORD: Final = 1.0
"""Seconds that the end waits for it, at most."""
_MOST_NAMED: Final = 16


class LiveDiagnosis:
    """Of a job with more than one rank. A thread, from ``start`` to ``stop``."""

    def __init__(
        self,
        job: Job,
        rank: int,
        world_size: int,
        meter_provider: MeterProvider | None,
        throttled: Callable[[], int | None],
    ) -> None:
        self._job = job
        self._meter_provider = meter_provider
        self.observer = OwnRank(rank, world_size, socket.gethostname(), throttled)
        self._watch = Watch(rank, world_size, self.observer.outbox, self._connect, self._tell, slow=job.slow)
        self._writer: VerdictWriter | None = None
        """Made on the rank that diagnoses; the others have no such metrics."""
        self._told_once: set[Key] = set()
        self._last_step: int | None = None
        self._looked = time.monotonic()

    def start(self) -> None:
        """Start the thread."""
        peers.readings.listener, peers.nic_readings.listener = self.observer.traffic, self.observer.nics
        self._watch.start()

    def stop(self) -> None:
        """End it, with a last word to the others."""
        peers.readings.listener = peers.nic_readings.listener = None
        self._watch.stop(_LAST_WORD)
        if self._writer is not None:
            self._writer.ended()

    def _connect(self) -> Exchange | None:
        store, run_id = self._job.store(), self._job.run_id.value
        if store is None or run_id is None:
            return None
        if store.address is None:
            raise StoreGone("the ranks of this job have no TCP store")
        return Exchange(store.client, run_id)

    def _tell(self, look: Look) -> None:
        writer = self._writer = self._writer or VerdictWriter(self._meter_provider)
        for finding, is_over in look.changes:
            writer.tell(self._verdict(finding, is_over), finding.sentence)
        writer.standing(self._lost(look), look.cost, look.heard)

    def _verdict(self, finding: Finding, is_over: bool) -> Verdict:
        run_id = self._job.run_id.value
        trace_id, span_id = self.observer.span_of(finding.last_step) or (0, 0)
        return Verdict(
            finding.kind.value,
            is_over,
            finding.confidence.value,
            None if finding.cause is None else finding.cause.value,
            ",".join(map(str, finding.ranks[:_MOST_NAMED])) or None,
            ",".join(finding.hosts[:_MOST_NAMED]) or None,
            None if finding.direction is None else finding.direction.value,
            finding.first_step,
            finding.last_step,
            finding.lost,
            run_id,
            trace_id=f"{trace_id:032x}" if trace_id else "",
            span_id=f"{span_id:016x}" if span_id else "",
        )

    def _lost(self, look: Look) -> dict[tuple[str, str], float]:
        """Seconds since the look before, by culprit: those of the steps since then; one that stood still at
        once."""
        last = look.last_step
        steps = 0 if last is None or self._last_step is None else max(0, last - self._last_step)
        self._last_step = last if last is not None else self._last_step
        now, before = time.monotonic(), self._looked
        self._looked = now
        lost: dict[tuple[str, str], float] = {}
        for key, finding in look.told.items():
            if finding.first_step is None:
                seconds = now - before  # it is stuck
            elif finding.kind in ONCE:
                seconds = 0.0 if key in self._told_once else finding.lost or 0.0
                self._told_once.add(key)
            else:
                seconds = steps * (finding.lost or 0.0)
            culprit = finding.kind.value, _who(finding)
            lost[culprit] = lost.get(culprit, 0.0) + seconds
        self._told_once &= look.told.keys()
        return lost


def _who(finding: Finding) -> str:
    if not finding.ranks:
        return finding.hosts[0] if finding.hosts else "nobody"
    more = f" and {len(finding.ranks) - 1} more" if len(finding.ranks) > 1 else ""
    return f"rank {finding.ranks[0]}{more}"
