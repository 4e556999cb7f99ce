"""What became of each signal, as metrics of whatever provider is global."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from typing import Final

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from otel_netmon import semconv
from otel_netmon.delivery.send_queue import SendQueue
from otel_netmon.version import __version__

_Attributes = dict[str, str]

_reported: Final[list[tuple[weakref.ref[SendQueue], _Attributes]]] = []


def report(queue: SendQueue, signal: str) -> None:
    """Report what becomes of ``queue``, as long as it lives.

    The SDK drops the callbacks of an instrument that is created twice: so each is made once, for all queues.
    """
    _reported.append((weakref.ref(queue), {semconv.DELIVERY_SIGNAL: signal}))
    if len(_reported) > 1:
        return
    meter = metrics.get_meter(semconv.SCOPE_DELIVERY, __version__, schema_url=semconv.SCHEMA_URL)
    semconv.create(meter, semconv.DELIVERED_ITEMS, [_each(lambda queue: queue.stats.delivered)])
    semconv.create(meter, semconv.LOST_ITEMS, [_lost])
    semconv.create(meter, semconv.DELIVERY_RETRIES, [_each(lambda queue: queue.stats.retries)])
    semconv.create(meter, semconv.SPOOL_SIZE, [_each(lambda queue: queue.spool_size())])


def _living() -> Iterator[tuple[SendQueue, _Attributes]]:
    return ((queue, about) for ref, about in _reported if (queue := ref()) is not None)


def _each(read: Callable[[SendQueue], float]) -> Callable[[CallbackOptions], list[Observation]]:
    return lambda _: [Observation(read(queue), about) for queue, about in _living()]


def _lost(_: CallbackOptions) -> list[Observation]:
    return [
        Observation(count, {**about, semconv.DELIVERY_REASON: reason})
        for queue, about in _living()
        for reason, count in list(queue.stats.lost.items())
    ]
