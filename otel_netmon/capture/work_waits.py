"""``Work.wait`` replaced: when a blocking collective completed, and how long the training thread waited.

A caller that asks for a blocking collective calls ``wait()`` on its work at once, in Python, and the end of that
call is the completion. C++ callers (DDP's reducer) wait in C++ and are not seen here; they ask for asynchronous
works, which are followed by their futures. gloo's sends and receives have no future: there the wait is all there
is, and one that came too late is a bound; so is the moment when the caller releases such a work.

Between the backend and the caller nobody keeps the Python object of a work alive: that is done here, until the
caller has it.
"""

from __future__ import annotations

import functools
import threading
import weakref
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final

from otel_netmon import forks
from otel_netmon.capture.event import failure_of
from otel_netmon.patches import Patches

if TYPE_CHECKING:
    from collections.abc import Callable

    from otel_netmon.capture.event import CollectiveEvent
    from otel_netmon.capture.ring import EventRing

_PATIENCE: Final = 1_000_000_000
"""Nanoseconds after which a work is followed by its future, if its caller did not wait for it after all."""

_AT_ONCE: Final = 1_000_000
_BLOCKED: Final = 100_000
"""Nanoseconds. A wait that came later than ``_AT_ONCE`` and took less than ``_BLOCKED`` found a work that was
complete already."""

_NO_TIME: Final = 1_000
"""Nanoseconds: a wait that took less did not wait, and is not counted."""

_MOST_HELD: Final = 16
"""Works on their way to their callers: one per thread that communicates."""

_NOTHING: Final = None, None

_WITHOUT_FUTURES: Final = ("send", "recv", "recv_anysource")
"""Methods of ``ProcessGroup`` whose works may have no future, and end with their callers' handles."""


class WorkWaitHook:
    """Finishes events in ``ring``. Replaces ``Work.wait`` from ``install`` to ``remove``, which puts it back.

    ``follow`` takes the event and the work of a caller that did not wait after all; it must not raise.
    """

    def __init__(self, ring: EventRing) -> None:
        self._ring = ring
        self._held: dict[int, tuple[CollectiveEvent, Any]] = {}
        """By id, works on their way to their callers."""
        self._handles: dict[int, tuple[CollectiveEvent, weakref.ref[Any]]] = {}
        """The works that their callers have, not kept alive."""
        self._ours: set[type] = set()
        """torch's own classes of works, as long as our ``wait`` is in them."""
        self._follow: Callable[[CollectiveEvent, Any], None] | None = None
        self._follow_later: Callable[[CollectiveEvent, Any], None] | None = None
        self._patches = Patches()
        self._wait: Any = None
        self._main = threading.main_thread().ident
        self.blocked = 0
        """Nanoseconds that the main thread spent in ``Work.wait``."""
        forks.register(self)

    def install(self, follow: Callable[[CollectiveEvent, Any], None]) -> None:
        """Replace ``wait``. torch must be imported."""
        from torch.distributed import ProcessGroup, Work

        self._follow = follow
        self._patches.put(Work, "wait", lambda original: _make_wait(original, self, self._ring))
        self._wait = Work.__dict__["wait"]
        self._ours.add(Work)
        for name in _WITHOUT_FUTURES:
            self._patches.put(ProcessGroup, name, lambda original: _make_returning(original, self))

    def install_when_needed(self, follow: Callable[[CollectiveEvent, Any], None]) -> None:
        """Install it with the first work that is expected: the backend sees the waits for its own."""
        self._follow_later = follow

    def remove(self) -> None:
        """Put the originals back, unless somebody else's stand there by now: then ours only pass calls on."""
        self._patches.remove()
        self._follow = self._follow_later = self._wait = None
        self._ours.clear()
        self._forget()

    def _forget(self) -> None:
        self._held.clear()
        self._handles.clear()

    def after_fork_in_child(self) -> None:
        """The parent's works are the parent's."""
        self._forget()
        self._main = threading.main_thread().ident
        self.blocked = 0

    def expect(self, work: Any, event: CollectiveEvent) -> bool:
        """Finish ``event`` when ``work.wait()`` returns. False when a wait for this work would not pass here."""
        cls = type(work)
        if cls not in self._ours and not self._is_ours(cls):
            return False
        if not event.kind.is_waited_for:
            event.is_unseen = True
        self._held[id(work)] = event, work
        if len(self._held) > _MOST_HELD:
            for oldest in list(self._held)[:-_MOST_HELD]:
                self.release(oldest)
        return True

    def _is_ours(self, cls: type) -> bool:
        """Whether works of a class that is new pass our ``wait``. That torch's own do is not asked again."""
        if self._follow_later is not None:
            follow, self._follow_later = self._follow_later, None
            self.install(follow)
        ours = self._wait is not None and getattr(cls, "wait", None) is self._wait
        if ours and cls.__module__.startswith("torch."):
            self._ours.add(cls)
        return ours

    def release(self, key: int) -> None:
        """From now on only the caller keeps the work of that id alive. Where the caller was to wait at once and
        does not, the work's future is followed."""
        event, work = self._held.get(key, _NOTHING)
        if event is None or work is None:
            return
        if not event.kind.is_waited_for:  # first here, then there: a wait has to find it at any time
            self._handles[key] = event, weakref.ref(work, functools.partial(self._dropped, key))
        if self._held.pop(key, None) is None:  # waited for just now
            self._handles.pop(key, None)
        elif event.kind.is_waited_for and self._follow is not None:
            self._follow(event, work)

    def _dropped(self, key: int, handle: weakref.ref[Any]) -> None:
        """The caller released a work without waiting for it."""
        event, known = self._handles.get(key, _NOTHING)
        if event is not None and known is handle:
            self._handles.pop(key, None)
            event.is_late = True
            self._ring.finish(event, monotonic_ns())

    def poll(self) -> None:
        """Release works that nobody has waited for in time; called from the background."""
        since = monotonic_ns() - _PATIENCE
        for key, (event, _) in list(self._held.items()):
            if not event.kind.is_waited_for or event.start <= since:
                self.release(key)


def _make_wait(original: Any, waits: WorkWaitHook, ring: EventRing) -> Any:
    call = getattr(original, "__func__", original)
    finish = ring.finish
    held, handles, no_timeout = waits._held, waits._handles, object()
    clock, get_ident = monotonic_ns, threading.get_ident

    def wait(self: Any, timeout: Any = no_timeout) -> Any:
        key = id(self)
        event, _ = held.pop(key, _NOTHING)
        if event is None and handles:
            event, _ = handles.pop(key, _NOTHING)
        if event is not None and not event.kind.is_waited_for:
            event.is_unseen = False
        since = clock()
        try:
            result = call(self) if timeout is no_timeout else call(self, timeout)
        except BaseException as error:
            if event is not None:
                finish(event, clock(), failure_of(error))
            raise
        end = clock()
        if end - since > _NO_TIME and get_ident() == waits._main:
            waits.blocked += end - since
        if event is not None:
            if since - event.start > _AT_ONCE and not event.kind.is_waited_for:
                event.is_late = end - since < _BLOCKED
            finish(event, end)
        return result

    wait.__doc__ = call.__doc__
    return wait


def _make_returning(original: Any, waits: WorkWaitHook) -> Callable[..., Any]:
    call = getattr(original, "__func__", original)
    held, release = waits._held, waits.release

    def returning(self: Any, *args: Any, **kwargs: Any) -> Any:
        work = call(self, *args, **kwargs)
        if id(work) in held:  # the caller has it now
            release(id(work))
        return work

    returning.__name__, returning.__doc__ = getattr(call, "__name__", "send"), call.__doc__
    return returning
