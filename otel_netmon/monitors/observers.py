"""Observable instruments shared by monitors: one per meter and name, whoever asks first.

The SDK gives the first instrument back when the same one is created again, and drops the callbacks of the
second call without a word. So each instrument gets one callback, made once, which asks whoever is registered at
that moment; this is also what lets a monitor fall silent, which the API has no call for. Of two that tell the same
series the first is heard: the SDK would add their values up.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from opentelemetry.metrics import CallbackOptions, Observation

from otel_netmon import forks, semconv, threads

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackT, Meter

Observe = Callable[[], Iterable[Observation]]
"""Gives the observations of one instrument, from state only; never does I/O, never raises."""


class _Hub:
    """The observers of one meter, by metric name. Tuples are replaced, not changed: callbacks need no lock."""

    def __init__(self) -> None:
        self.observers: dict[str, tuple[tuple[object, Observe], ...]] = {}

    def callback(self, name: str) -> CallbackT:
        def observe(_options: CallbackOptions) -> list[Observation]:
            asked = [ask for _, ask in self.observers.get(name, ())]
            if len(asked) == 1:
                return list(asked[0]())
            found: list[Observation] = []
            told: set[object] = set()
            for ask in asked:
                fresh = [(_series(one), one) for one in ask()]
                found += [one for series, one in fresh if series not in told]
                told.update(series for series, _ in fresh)
            return found

        return observe


def _series(one: Observation) -> object:
    try:
        return frozenset((one.attributes or {}).items())
    except TypeError:  # an attribute that is a list
        return repr(sorted((one.attributes or {}).items()))


_lock = threads.RLock()
_hubs: weakref.WeakKeyDictionary[Meter, _Hub] = weakref.WeakKeyDictionary()


def add(meter: Meter, owner: object, metric: semconv.Metric, observe: Observe) -> None:
    """Let ``observe`` feed the instrument of ``metric``, which is created when it is not there yet.

    An owner feeds an instrument once: adding it again to the same meter changes nothing.
    """
    with _lock:
        hub = _hubs.setdefault(meter, _Hub())
        create = metric.name not in hub.observers
        before = hub.observers.get(metric.name, ())
        if all(pair[0] is not owner for pair in before):
            hub.observers[metric.name] = (*before, (owner, observe))
    if create:
        semconv.create(meter, metric, [hub.callback(metric.name)])


def remove(owner: object) -> None:
    """Forget everything that ``owner`` registered, with every meter."""
    with _lock:
        for hub in list(_hubs.values()):
            for name, observers in hub.observers.items():
                hub.observers[name] = tuple(pair for pair in observers if pair[0] is not owner)


@forks.register_function
def _after_fork_in_child() -> None:
    """A child watches nothing: its parent reports this host. The lock may have been held at the fork."""
    global _lock  # noqa: PLW0603  # the only way to replace a lock that a vanished thread holds
    _lock = threads.RLock()
    for hub in list(_hubs.values()):
        hub.observers = dict.fromkeys(hub.observers, ())
