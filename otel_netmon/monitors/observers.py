"""Observable instruments shared by monitors: one per meter and name, whoever asks first.

The SDK gives the first instrument back when the same one is created again, and drops the callbacks of the
second call without a word. So each instrument gets one callback, made once, which asks whoever is registered at
that moment; this is also what lets a monitor fall silent, which the API has no call for. Of two that report the
same series the first is heard: the SDK would add their values up.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Protocol

from opentelemetry.metrics import CallbackOptions, Observation

from otel_netmon import forks, semconv, threads

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackT, Meter


class Observable(Protocol):
    """Who reports through instruments."""

    def observations(self, metric: str) -> list[Observation]:
        """The present values of a metric, from state only; never does I/O, never raises."""
        ...


class _Hub:
    """Who reports through one meter, by metric name. Tuples are replaced, not changed: callbacks need no lock."""

    def __init__(self) -> None:
        self.owners: dict[str, tuple[Observable, ...]] = {}

    def callback(self, name: str) -> CallbackT:
        def observe(_options: CallbackOptions) -> list[Observation]:
            owners = self.owners.get(name, ())
            if len(owners) == 1:
                return owners[0].observations(name)
            found: dict[object, Observation] = {}
            for owner in owners:
                fresh = [(_series(one), one) for one in owner.observations(name)]
                found = {**dict(fresh), **found}
            return list(found.values())

        return observe


def _series(one: Observation) -> object:
    try:
        return frozenset((one.attributes or {}).items())
    except TypeError:  # an attribute that is a list
        return repr(sorted((one.attributes or {}).items()))


_lock = threads.RLock()
_hubs: weakref.WeakKeyDictionary[Meter, _Hub] = weakref.WeakKeyDictionary()


def add(meter: Meter, owner: Observable, metric: semconv.Metric) -> None:
    """Let ``owner`` feed the instrument of ``metric``, which is created when it is not there yet.

    Adding an owner to the same meter again changes nothing.
    """
    with _lock:
        hub = _hubs.setdefault(meter, _Hub())
        create = metric.name not in hub.owners
        before = hub.owners.get(metric.name, ())
        if all(one is not owner for one in before):
            hub.owners[metric.name] = (*before, owner)
    if create:
        semconv.create(meter, metric, [hub.callback(metric.name)])


def remove(owner: Observable) -> None:
    """Let ``owner`` feed no instrument of any meter."""
    with _lock:
        for hub in list(_hubs.values()):
            for name, owners in hub.owners.items():
                hub.owners[name] = tuple(one for one in owners if one is not owner)


@forks.register_function
def _after_fork_in_child() -> None:
    """A child watches nothing: its parent reports this host. The lock may have been held at the fork."""
    global _lock  # noqa: PLW0603  # the only way to replace a lock that a vanished thread holds
    _lock = threads.RLock()
    for hub in list(_hubs.values()):
        hub.owners = dict.fromkeys(hub.owners, ())
