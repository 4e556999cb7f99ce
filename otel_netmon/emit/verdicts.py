"""What the live diagnosis found, told: one line in the log, one log event, and metrics."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from otel_netmon import schema, semconv, threads
from otel_netmon.emit.log_events import LogEvents
from otel_netmon.records import Verdict
from otel_netmon.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.metrics import MeterProvider

_logger = logging.getLogger(__name__)

_MOST_SERIES: Final = 64
_OTHERS: Final = "others"

Culprit = tuple[str, str]
"""A kind, and who it is: the attributes of a metric."""


class VerdictWriter:
    """One process's. ``tell`` is used by one thread; the metrics' callbacks only read what is swapped in."""

    def __init__(self, meter_provider: MeterProvider | None) -> None:
        self._logs = LogEvents()
        self._lock = threads.RLock()
        self._lost: dict[Culprit, float] = {}
        self._active: frozenset[Culprit] = frozenset()
        self._duration: float | None = None
        self._heard: int | None = None
        provider = meter_provider or metrics.get_meter_provider()
        meter = provider.get_meter(semconv.SCOPE_COLLECTIVES, __version__, schema_url=semconv.SCHEMA_URL)
        callbacks: dict[semconv.Metric, Callable[[CallbackOptions], Iterable[Observation]]] = {
            semconv.DIAGNOSIS_LOST_METRIC: self._lost_times,
            semconv.DIAGNOSIS_ACTIVE_METRIC: self._actives,
            semconv.DIAGNOSIS_DURATION_METRIC: lambda _: self._one(self._duration),
            semconv.DIAGNOSIS_RANKS_METRIC: lambda _: self._one(self._heard),
        }
        self._instruments: list[Any] = [
            semconv.create(meter, metric, [callback]) for metric, callback in callbacks.items()
        ]

    def tell(self, verdict: Verdict, sentence: str) -> None:
        """A finding came, or is over."""
        said = f"no longer: {sentence}" if verdict.is_over else sentence
        _logger.log(logging.INFO if verdict.is_over else logging.WARNING, "otel-netmon: %s", said)
        ids = (int(verdict.trace_id, 16), int(verdict.span_id, 16)) if verdict.trace_id else None
        severity = "INFO" if verdict.is_over else "WARN"
        self._logs.emit(
            semconv.EVENT_DIAGNOSIS,
            said,
            schema.attributes(verdict),
            time=time.time_ns(),
            ids=ids,
            sampled=True,
            severity=severity,
        )

    def standing(self, lost: dict[Culprit, float], duration: float, heard: int) -> None:
        """What stands after a look: seconds lost since the look before, by culprit, even if 0."""
        with self._lock:
            self._active = frozenset(lost)
            self._duration, self._heard = duration, heard
            for culprit, seconds in lost.items():
                known = culprit in self._lost or len(self._lost) < _MOST_SERIES
                key = culprit if known else (culprit[0], _OTHERS)
                self._lost[key] = self._lost.get(key, 0.0) + seconds

    def ended(self) -> None:
        """Another rank diagnoses, or none: the sums stay."""
        with self._lock:
            self._active, self._duration, self._heard = frozenset(), None, None

    def _lost_times(self, _: CallbackOptions) -> list[Observation]:
        with self._lock:
            return [Observation(seconds, _attributes(culprit)) for culprit, seconds in self._lost.items()]

    def _actives(self, _: CallbackOptions) -> list[Observation]:
        with self._lock:
            return [Observation(1, _attributes(culprit)) for culprit in sorted(self._active)[:_MOST_SERIES]]

    @staticmethod
    def _one(value: float | None) -> list[Observation]:
        return [] if value is None else [Observation(value)]


def _attributes(culprit: Culprit) -> dict[str, str]:
    kind, who = culprit
    return {str(semconv.DIAGNOSIS_KIND): kind, str(semconv.DIAGNOSIS_CULPRIT): who}
