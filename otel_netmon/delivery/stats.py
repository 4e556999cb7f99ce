"""What became of a signal's items: counted, logged where something changes, and reported as metrics."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from otel_netmon import semconv
from otel_netmon.version import __version__

_logger = logging.getLogger(__name__)

_MAX_REASONS: Final = 32


class DeliveryStats:
    """The counts of one signal. Used under the lock of its queue; read by anybody."""

    def __init__(self, signal: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._signal = signal
        self._clock = clock
        self.endpoint = "the collector"
        self.delivered = 0
        self.retries = 0
        self.lost: dict[str, int] = {}
        self.failing_since: float | None = None
        """When attempts began to fail; ``None`` while they succeed."""

    @property
    def failing(self) -> bool:
        """Whether the last attempt failed."""
        return self.failing_since is not None

    def lose(self, reason: str, items: int) -> None:
        """Count what is gone for good; each reason is logged once."""
        if not items:
            return
        if reason not in self.lost:
            if len(self.lost) >= _MAX_REASONS:
                reason = semconv.REASON_OTHER
            self._log(f"are lost ({reason}); logged once, the metric {semconv.LOST_ITEMS.name} counts them")
        self.lost[reason] = self.lost.get(reason, 0) + items

    def attempt_failed(self, reason: str, kept_in: str) -> None:
        """An attempt failed; the first of several in a row is logged."""
        self.retries += 1
        if self.failing_since is None:
            self.failing_since = self._clock()
            self._log(f"cannot be exported to {self.endpoint} ({reason}); buffering in {kept_in} and retrying")

    def answered(self) -> None:
        """An attempt came to an end; logged when those before it failed."""
        if self.failing_since is not None:
            seconds = self._clock() - self.failing_since
            self.failing_since = None
            self._log(f"are exported to {self.endpoint} again, after {seconds:.0f} s")

    def no_disk(self, reason: str, mebibytes: int) -> None:
        """Nothing can be kept on disk."""
        self._log(
            f"cannot be buffered on disk ({reason}); buffering up to {mebibytes} MiB in memory. Set "
            "OTEL_NETMON_SPOOL_DIR to a folder of your own"
        )

    def left_behind(self, folder: str) -> None:
        """The end, and something waits on disk."""
        self._log(
            f"were not all exported to {self.endpoint} before the end; the rest is in {folder}: "
            f"`otel-netmon flush {folder}`, or the next run with this folder, delivers it"
        )

    def _log(self, sentence: str) -> None:
        _logger.warning("otel-netmon: %s %s", self._signal, sentence)


_reported: Final[list[tuple[weakref.ref[Any], dict[str, str]]]] = []


def report(queue: Any, signal: str) -> None:
    """Report what becomes of a ``SendQueue`` by the provider that is global, as long as it lives.

    The SDK drops the callbacks of an instrument that is created twice: so each is made once, for all queues.
    """
    _reported.append((weakref.ref(queue), {semconv.DELIVERY_SIGNAL: signal}))
    if len(_reported) > 1:
        return
    meter = metrics.get_meter(semconv.SCOPE_DELIVERY, __version__, schema_url=semconv.SCHEMA_URL)
    semconv.create(meter, semconv.DELIVERED_ITEMS, [_observe(lambda queue: {None: queue.stats.delivered})])
    semconv.create(meter, semconv.LOST_ITEMS, [_observe(lambda queue: queue.stats.lost.copy())])
    semconv.create(meter, semconv.DELIVERY_RETRIES, [_observe(lambda queue: {None: queue.stats.retries})])
    semconv.create(meter, semconv.SPOOL_SIZE, [_observe(lambda queue: {None: queue.spool_size()})])


def _observe(read: Callable[[Any], Mapping[str | None, float]]) -> Callable[[CallbackOptions], list[Observation]]:
    """``read`` gives what to report of a queue, by the reason where there are some."""
    return lambda _: [
        Observation(value, about if reason is None else {**about, semconv.DELIVERY_REASON: reason})
        for ref, about in _reported
        if (queue := ref()) is not None
        for reason, value in read(queue).items()
    ]
