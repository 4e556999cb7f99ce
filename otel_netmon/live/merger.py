"""Digests of all ranks to the evidence of the last minute."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable
from typing import Final

from otel_netmon import semconv
from otel_netmon.diagnosis.evidence import Evidence
from otel_netmon.diagnosis.steps import StepTable
from otel_netmon.diagnosis.thresholds import BACKOFF, WINDOW
from otel_netmon.diagnosis.traffic import Traffic
from otel_netmon.live.digest import Digest
from otel_netmon.records import HostTraffic

_STEPS: Final = 3 * WINDOW
"""Steps that are kept."""
_READINGS: Final = 48
"""Of a rank's connections to one peer, and of quotas."""
_NICS: Final = 8
"""Readings of the NICs of a rank."""


class Merger:
    """Takes digests, gives evidence. Memory: some 200 bytes for each of the last 60 steps of each rank. Calls
    ``pause`` often."""

    def __init__(self, pause: Callable[[], None] = lambda: None) -> None:
        self._pause = pause
        self._numbers: dict[int, int] = {}
        self._heard: dict[int, float] = {}
        """When a new digest of a rank came, by this process's clock."""
        self._steps: dict[int, tuple[StepTable, dict[int, int]]] = {}
        """By tie, in the order in which they were first told of: what each rank did, and by rank its number."""
        self._traffic: dict[int, Traffic] = defaultdict(Traffic)
        self._nics: dict[int, deque[HostTraffic]] = defaultdict(lambda: deque(maxlen=_NICS))
        self._backed_off: dict[int, dict[int | str, int]] = defaultdict(dict)
        self._last: dict[int, Digest] = {}
        self._throttled: dict[str, deque[tuple[int, float]]] = defaultdict(lambda: deque(maxlen=_READINGS))

    def lacks(self, rank: int, tie: int) -> bool:
        """Whether that rank has not told of the step of that tie."""
        known = self._steps.get(tie)
        return known is None or rank not in known[1]

    def take(self, digest: Digest, now: float) -> None:
        """Take what a rank's key holds, if it is new; ``now`` in seconds of the monotonic clock."""
        rank = digest.rank
        if self._numbers.get(rank) == digest.number:
            return
        self._numbers[rank], self._heard[rank] = digest.number, now
        self._last[rank] = digest._replace(steps=(), traffic=(), nics=())
        for number, tie, sample in digest.steps:
            known = self._steps.get(tie)
            if known is None:
                known = self._steps[tie] = StepTable(digest.world_size), {}
                if len(self._steps) > _STEPS:
                    del self._steps[next(iter(self._steps))]
            table, numbers = known
            if rank not in numbers:
                numbers[rank] = number
                table.add(rank, sample)
        for each in digest.traffic:
            self._traffic[rank].add(each).keep(_READINGS)
            if each.backoff >= BACKOFF:
                self._backed_off[rank][each.peer] = each.at
        self._nics[rank].extend(digest.nics)
        if digest.throttled is not None:
            self._throttled[digest.host].append((digest.at, digest.throttled / 1e6))

    def evidence(self, now: float) -> Evidence:
        """What is known now."""
        last = self._last.values()
        evidence = Evidence(max((each.world_size for each in last), default=None), pause=self._pause)
        for table, numbers in self._steps.values():
            evidence.steps[numbers[min(numbers)]] = table
        for each in last:
            rank = each.rank
            evidence.hosts[rank] = each.host
            evidence.last_sign[rank] = each.at
            if not each.is_last:
                evidence.silent[rank] = now - self._heard[rank]
            if each.open_since is not None:
                evidence.open_since[rank] = each.open_since
            _join_groups(evidence, each)
            self._pause()
        evidence.traffic.update(self._traffic)
        evidence.backed_off.update(self._backed_off)
        evidence.nics = {rank: list(readings) for rank, readings in self._nics.items() if readings}
        metric = semconv.CGROUP_THROTTLED.name
        for host, counted in self._throttled.items():
            evidence.counters[host] = {(metric, "", ()): list(counted)}
        return evidence


def _join_groups(evidence: Evidence, digest: Digest) -> None:
    for group, size, issued, _ in digest.groups:
        evidence.group_sizes[group] = size
        evidence.heads.setdefault(group, {})[digest.rank] = issued
    for group, sequence, call in digest.calls:
        evidence.calls.setdefault(group, {}).setdefault(digest.rank, {})[sequence] = call
