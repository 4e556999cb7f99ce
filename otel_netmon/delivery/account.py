"""What became of a signal's items: counted for the metrics, and said once in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from otel_netmon import semconv

_logger = logging.getLogger(__name__)

_MAX_REASONS: Final = 32


class Account:
    """The counts of one signal. Used under the lock of its outbox; read by anybody."""

    def __init__(self, signal: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._signal = signal
        self._clock = clock
        self.endpoint = "the collector"
        self.delivered = 0
        self.retries = 0
        self.lost: dict[str, int] = {}
        self.refused_since: float | None = None
        """When the collector stopped taking; ``None`` while it takes."""

    @property
    def failing(self) -> bool:
        """Whether the last attempt failed."""
        return self.refused_since is not None

    def lose(self, reason: str, items: int) -> None:
        """Count what is gone for good; each reason is said once."""
        if not items:
            return
        if reason not in self.lost:
            if len(self.lost) >= _MAX_REASONS:
                reason = semconv.REASON_OTHER
            _logger.warning(
                "otel-netmon: %s are lost: %s (said once; %s counts them)",
                self._signal, reason, semconv.LOST_ITEMS.name,
            )  # fmt: skip
        self.lost[reason] = self.lost.get(reason, 0) + items

    def deliver(self, items: int, rejected: int) -> None:
        """Count a request that was taken, but for ``rejected`` of its items."""
        self.delivered += items - min(rejected, items)
        self.lose(semconv.REASON_PARTIAL, min(rejected, items))

    def refused(self, reason: str, kept_in: str) -> None:
        """An attempt failed; said at the first of a row."""
        self.retries += 1
        if self.refused_since is None:
            self.refused_since = self._clock()
            _logger.warning(
                "otel-netmon: %s are not taken by %s (%s); they are kept in %s until they are",
                self._signal, self.endpoint, reason, kept_in,
            )  # fmt: skip

    def answered(self) -> None:
        """An attempt came to an end; said when those before it failed."""
        if self.refused_since is not None:
            since, self.refused_since = self.refused_since, None
            _logger.warning(
                "otel-netmon: %s are taken again by %s, after %.0f s",
                self._signal, self.endpoint, self._clock() - since,
            )  # fmt: skip

    def no_disk(self, reason: str, mebibytes: int) -> None:
        """Nothing can be kept on disk."""
        _logger.warning(
            "otel-netmon: %s cannot be kept on disk (%s); they wait in memory, %d MiB at most",
            self._signal, reason, mebibytes,
        )  # fmt: skip

    def left_behind(self, folder: str) -> None:
        """The end, and something waits on disk."""
        _logger.warning(
            "otel-netmon: %s were not taken by %s before the end; `otel-netmon flush %s`, or the next run "
            "with this folder, delivers them",
            self._signal, self.endpoint, folder,
        )  # fmt: skip
