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
from collections.abc import Callable
from typing import Any, Final

_logger = logging.getLogger(__name__)

STORE_KEY: Final = "otel_netmon/run_id"
JOB_KEY: Final = "otel_netmon/job_id"


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
def rank_id(run_id: str, period: str, rank: int) -> int:
    """64-bit id of a rank's span in a period."""
    return int.from_bytes(_digest(run_id, "rank", period, rank)[:8], "big") or 1


def collective_id(run_id: str, rank: int, group: str, sequence: object) -> int:
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
    """The run's id, as it becomes known. Used by the background thread only."""

    def __init__(
        self,
        fixed: str | None,
        timeout: float,
        *,
        attempt: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.attempt = attempt
        """How many times an elastic launcher restarted the ranks. Each attempt is a run of its own."""
        self._value = None if fixed is None else of_attempt(fixed, attempt)
        self._timeout = timeout
        self._clock = clock
        self._store: Any = None
        self._is_first = False
        self._deadline: float | None = None

    @property
    def value(self) -> str | None:
        """The id; ``None`` while it is not known yet."""
        return self._value

    def agree_through(self, store: Any, *, is_rank_0: bool) -> None:
        """Use ``store`` of the default process group. Nothing is sent before ``resolve``."""
        if self._value is None:
            self._store, self._is_first = store, is_rank_0
            self._deadline = self._clock() + self._timeout

    def resolve(self, *, last_call: bool = False) -> str | None:
        """Ask once, without waiting: the id, or ``None`` if rank 0 has not said it yet.

        After the timeout, or with ``last_call``, an id of this process's own is used, with a warning: its
        spans are then in traces of their own. The store is only ever asked whether the key is there: a
        blocking ``get`` would hold the client's lock and with it any store operation of the training.
        """
        if self._value is not None:
            return self._value
        try:
            if self._store is not None and self._is_first:
                self._value = of_attempt(self._job_id(), self.attempt)
                self._store.set(STORE_KEY, self._value)
            elif self._store is not None and self._store.check([STORE_KEY]):
                self._value = self._store.get(STORE_KEY).decode("ascii", "replace")[:128]
        except Exception as error:  # noqa: BLE001 - a store that died: law 1
            _logger.debug("otel-netmon: the store did not answer: %r", error)
        late = self._deadline is not None and self._clock() > self._deadline
        if self._value is None and (late or last_call):
            self._value = secrets.token_hex(16)
            _logger.warning(
                "otel-netmon: no run id from rank 0 (is it instrumented?): this rank's spans get traces of "
                "their own; OTEL_NETMON_RUN_ID sets one id for all"
            )
        if self._value is not None:
            self._store = None  # let the connection go with its group
        return self._value

    def _job_id(self) -> str:
        """What the attempts of one job share: kept in the launcher's own store, which outlives its ranks."""
        drawn = secrets.token_hex(16)
        store = self._store
        while hasattr(store, "underlying_store"):
            store = store.underlying_store
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
            return drawn
        kept: bytes = store.compare_set(JOB_KEY, "", drawn)
        return kept.decode("ascii", "replace")[:128] or drawn
