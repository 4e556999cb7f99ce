"""What a fork must make anew: one handler, and the objects and functions that it calls in the child.

A child has one thread. A lock that another thread of the parent held stays held there for ever, a thread is gone,
and what was captured, queued or counted is the parent's. So whoever owns a lock, a thread, an open file or a count
says here how its object begins again.
"""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

from otel_netmon.guard import guarded


class Forkable(Protocol):
    """Something of which a forked child needs its own."""

    def after_fork_in_child(self) -> None:
        """Begin again. Called in the child, alone; takes no lock that the parent may have held."""


_F = TypeVar("_F", bound=Forkable)

_objects: Final[weakref.WeakValueDictionary[int, Any]] = weakref.WeakValueDictionary()
_functions: Final[list[Callable[[], None]]] = []
_numbers: Final = itertools.count()


def register(thing: _F) -> _F:
    """Have ``thing.after_fork_in_child()`` called in every forked child, as long as it lives. Gives it back.

    In the order of registration; an exception is logged and stops no other.
    """
    _objects[next(_numbers)] = thing
    return thing


def register_function(function: Callable[[], None]) -> Callable[[], None]:
    """The same for a function of a module."""
    _functions.append(function)
    return function


def _after_in_child() -> None:
    things = [thing.after_fork_in_child for thing in _objects.values()]
    for begin_again in (*_functions, *things):
        guarded(begin_again)


os.register_at_fork(after_in_child=_after_in_child)
