"""Observable instruments shared by monitors: one per meter and name, whoever asks first.

The SDK gives the first instrument back when the same one is created again, and drops the callbacks of the
second call without a word. So each instrument gets one callback, made once, which asks whoever is registered at
that moment; this is also what lets a monitor fall silent, which the API has no call for. Of two that report the
same series the first is heard: the SDK would add their values up.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from opentelemetry.metrics import CallbackOptions, Observation

from otel_netmon import forks, semconv, threads

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackT, Meter

Observe: TypeAlias = Callable[[str], list[Observation]]
"""Gives the present values of a metric by its name, from state only; never does I/O, never raises."""


def _callback(owners: dict[str, tuple[Observe, ...]], name: str) -> CallbackT:
    def observe(_options: CallbackOptions) -> list[Observation]:
        present = owners.get(name, ())
        if len(present) == 1:
            return present[0](name)
        found: dict[object, Observation] = {}
        for owner in present:
            found = {**{_series(one): one for one in owner(name)}, **found}
        return list(found.values())

    return observe


def _series(one: Observation) -> object:
    try:
        return frozenset((one.attributes or {}).items())
    except TypeError:  # an attribute that is a list
        return repr(sorted((one.attributes or {}).items()))


_lock = threads.RLock()
_hubs: weakref.WeakKeyDictionary[Meter, dict[str, tuple[Observe, ...]]] = weakref.WeakKeyDictionary()
"""Who reports through a meter, by metric. Tuples are replaced, not changed: callbacks need no lock."""


def add(meter: Meter, owner: Observe, metric: semconv.Metric) -> None:
    """Let ``owner`` feed the instrument of ``metric``, which is created when it is not there yet.

    Adding an owner to the same meter again changes nothing.
    """
    with _lock:
        owners = _hubs.setdefault(meter, {})
        create = metric.name not in owners
        before = owners.get(metric.name, ())
        if owner not in before:
            owners[metric.name] = (*before, owner)
    if create:
        semconv.create(meter, metric, [_callback(owners, metric.name)])


def remove(owner: Observe) -> None:
    """Let ``owner`` feed no instrument of any meter."""
    with _lock:
        for hub in list(_hubs.values()):
            for name, owners in hub.items():
                hub[name] = tuple(one for one in owners if one != owner)


@forks.register_function
def _after_fork_in_child() -> None:
    """A child watches nothing: its parent reports this host. The lock may have been held at the fork."""
    global _lock  # noqa: PLW0603  # the only way to replace a lock that a vanished thread holds
    _lock = threads.RLock()
    for hub in list(_hubs.values()):
        hub.update(dict.fromkeys(hub, ()))
