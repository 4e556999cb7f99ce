"""The ids that all ranks share, agreed on once and then computed.

Rank 0 draws a run id; the others read it from the store of the default process group. Every trace and span id
of a step is a hash of that: no rank asks another again.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Collection
from typing import Any, Final

from otel_netmon.job.store import base_store

_logger = logging.getLogger(__name__)

STORE_KEY: Final = "otel_netmon/run_id"
JOB_KEY: Final = "otel_netmon/job_id"
NONCE: Final = "+"
"""What follows it tells the foreign groups of one run apart."""


@functools.lru_cache(maxsize=64)
def trace_id(run_id: str, period: str) -> int:
    """128-bit trace id of a step, by its number; or of another period, by its key.

    The low 64 bits are uniform, as ratio samplers need.
    """
    return int.from_bytes(_digest(run_id, "trace", period)[:16], "big") or 1


@functools.lru_cache(maxsize=64)
def root_id(run_id: str, period: str) -> int:
    """64-bit id of the root span of a period, which rank 0 emits."""
    return int.from_bytes(_digest(run_id, "root", period)[:8], "big") or 1


@functools.lru_cache(maxsize=64)
def rank_id(run_id: str, period: str, rank: int | str | None) -> int:
    """64-bit id of the span of a rank, or of a process that has none, in a period."""
    return int.from_bytes(_digest(run_id, "rank", period, rank)[:8], "big") or 1


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

    Safe to use from any thread; what asks the store is for the background, and for the moment before a group goes.
    """

    def __init__(
        self,
        fixed: str | None,
        timeout: float,
        *,
        attempt: int = 0,
        generation: int = 0,
        foreign: bool = False,
        used: Collection[str | None] = (),
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
        self._value = None if fixed is None or generation or foreign else of_attempt(fixed, attempt)
        self._timeout = timeout
        self._clock = clock
        self._store: Callable[[], Any] = _no_store
        self.is_first = False
        """Whether it is this rank that says it."""
        self._source: RunId | None = None
        self._deadline: float | None = None

    @property
    def value(self) -> str | None:
        """The id; ``None`` while it is not known yet."""
        return self._value

    def agree_through(self, store: Callable[[], Any], *, is_first: bool, source: RunId | None = None) -> None:
        """Use what ``store`` gives, as long as it gives one. Nothing is sent before ``resolve``.

        The first rank says the id to the others: that of ``source`` where there is one, else a new one.
        """
        if self._value is None:
            self._store, self.is_first, self._source = store, is_first, source

    def resolve(self, *, last_call: bool = False) -> str | None:
        """Ask once, without waiting: the id, or ``None`` if the first rank has not said it yet.

        After the timeout, which the first call begins, or with ``last_call``, an id of this process's own is
        used, with a warning: its spans are then in traces of their own. The store is only ever asked whether the
        key is there: a blocking ``get`` would hold the client's lock and with it any operation of the training.
        """
        if self._value is not None:
            return self._value
        if self._deadline is None:
            self._deadline = self._clock() + self._timeout
        try:
            store = self._store()
            if store is not None and self.is_first:
                self._say(store, last_call)
            elif store is not None and store.check([STORE_KEY]):
                said = store.get(STORE_KEY).decode("ascii", "replace")[:128]
                if said not in self._used:
                    self._value = said
        except Exception as error:  # noqa: BLE001 - a store that died: law 1
            _logger.debug("otel-netmon: the store did not answer: %r", error)
        late = self._clock() > self._deadline
        if self._value is None and (late or last_call):
            self._value = secrets.token_hex(16)
            if not self.is_first:
                _logger.warning(
                    "otel-netmon: no run id from the group's first rank (is it instrumented?): this rank's spans "
                    "get traces of their own; OTEL_NETMON_RUN_ID sets one id for all"
                )
        return self._value

    def _say(self, store: Any, last_call: bool) -> None:
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
        store.set(STORE_KEY, value)
        self._value = value

    def _job_id(self, store: Any) -> str:
        """What the attempts of one job share: kept in the launcher's own store, which outlives its ranks."""
        drawn = secrets.token_hex(16)
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
            return drawn
        kept: bytes = base_store(store).compare_set(JOB_KEY, "", drawn)
        return kept.decode("ascii", "replace")[:128] or drawn


def _no_store() -> Any:
    return None
