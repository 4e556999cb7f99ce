"""The ids that all ranks share: one run id, through the store of the process group, and hashes of it."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Collection
from typing import Final

from otel_netmon.job.store import JobStore

_logger = logging.getLogger(__name__)

STORE_KEY: Final = "otel_netmon/run_id"
JOB_KEY: Final = "otel_netmon/job_id"
NONCE: Final = "+"
"""Comes before what makes the id of a foreign group unique in its run."""


@functools.lru_cache(maxsize=64)
def trace_id(run_id: str, interval: str) -> int:
    """128-bit trace id of an interval, by its key. The low 64 bits are uniform, as ratio samplers need."""
    return int.from_bytes(_digest(run_id, "trace", interval)[:16], "big") or 1


@functools.lru_cache(maxsize=64)
def tie_of(trace_id: int) -> int:
    """What ties a step to the same one of other ranks, in 32 bits."""
    return trace_id & 0xFFFFFFFF


def root_id(run_id: str, interval: str) -> int:
    """64-bit id of the root span of an interval, which rank 0 emits."""
    return int.from_bytes(_digest(run_id, "root", interval)[:8], "big") or 1


@functools.lru_cache(maxsize=64)
def rank_id(run_id: str, interval: str, rank: int | str | None) -> int:
    """64-bit id of the span of a rank, or of a process that has none, in an interval."""
    return int.from_bytes(_digest(run_id, "rank", interval, rank)[:8], "big") or 1


def collective_id(run_id: str, rank: int | str | None, group: str, sequence: object) -> int:
    """64-bit id of the span of one collective that had to be named before it ended."""
    return int.from_bytes(_digest(run_id, "collective", rank, group, sequence)[:8], "big") or 1


def _digest(*parts: object) -> bytes:
    return hashlib.sha256("\0".join(map(str, parts)).encode()).digest()


def of_attempt(job_id: str, attempt: int) -> str:
    """The run id of one attempt of a job: the job's own for the first."""
    return f"{job_id}.{attempt}" if attempt else job_id


def previous(run_id: str, attempt: int) -> str:
    """The run id of the attempt before ``attempt``, which must not be the first."""
    return of_attempt(run_id.removesuffix(f".{attempt}"), attempt - 1)


class RunId:
    """The id of one run, as it becomes known: of a default group's life, or of the processes of a foreign group.
    Safe to use from any thread."""

    def __init__(
        self,
        fixed: str | None,
        timeout: float,
        *,
        attempt: int = 0,
        generation: int = 0,
        foreign: bool = False,
        used: Collection[str | None] = (),
        store: Callable[[], JobStore | None] = lambda: None,
        is_first: bool = False,
        source: RunId | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.attempt = attempt
        """How many times an elastic launcher restarted the ranks. Each attempt is a run of its own."""
        self._fixed = fixed
        self._generation = generation
        self._foreign = foreign
        """Whether it is a foreign group's: another group of the same name may come, with the same numbers."""
        self._used = used
        """Ids of earlier groups of this process: one store may serve several, one after the other."""
        self.value = None if fixed is None or generation or foreign else of_attempt(fixed, attempt)
        """The id; ``None`` while it is not known yet."""
        self._timeout = timeout
        self._clock = clock
        self._store = store
        """Gives the store through which the ranks agree, as long as there is one."""
        self.is_first = is_first
        """Whether this rank writes it for the others: that of ``source`` where there is one, else a new one."""
        self._source = source
        self._deadline: float | None = None

    def resolve(self, *, last_call: bool = False) -> str | None:
        """Ask the store once, without waiting: the id, or ``None`` if the first rank has not written it yet.

        After the timeout, which the first call begins, or with ``last_call``, it is one of this process's own,
        with a warning: its spans are then in traces of their own.
        """
        if self.value is not None:
            return self.value
        if self._deadline is None:
            self._deadline = self._clock() + self._timeout
        store = self._store()
        if store is not None and self.is_first:
            self._write(store, last_call)
        elif store is not None:
            value = store.read(STORE_KEY)
            if value not in self._used:
                self.value = value
        late = self._clock() > self._deadline
        if self.value is None and (late or last_call):
            self.value = secrets.token_hex(16)
            if not self.is_first:
                _logger.warning(
                    "otel-netmon: no run id from the group's first rank (is it instrumented?): this rank's spans "
                    "get traces of their own; OTEL_NETMON_RUN_ID sets one id for all"
                )
        return self.value

    def _write(self, store: JobStore, last_call: bool) -> None:
        if self._source is not None:
            value = self._source.resolve(last_call=last_call)
            if value is None:
                return
        else:
            value = of_attempt(self._fixed or self._job_id(store), self.attempt)
            if self._generation:
                value = f"{value}-{self._generation}"
        if self._foreign:
            value = f"{value.partition(NONCE)[0]}{NONCE}{secrets.token_hex(4)}"
        if store.write(STORE_KEY, value):
            self.value = value

    def _job_id(self, store: JobStore) -> str:
        """What the attempts of one job share: kept in the launcher's own store, which outlives its ranks."""
        drawn = secrets.token_hex(16)
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
            return drawn
        return store.write_once(JOB_KEY, drawn)
