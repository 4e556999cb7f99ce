"""``Work.wait`` while we are on: when a blocking collective completed, and how long the training thread waited.

A caller that asks for a blocking collective calls ``wait()`` on its work at once, in Python. The end of that
call is the completion, exactly, for two clock readings on the thread that waits anyway. C++ callers (DDP's
reducer) wait in C++ and are not seen here; they ask for asynchronous works, which are followed by their futures.
gloo's sends and receives have no future: there the wait is all that tells, and one that came too late is a bound.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from otel_netmon.collectives.event import CollectiveEvent
    from otel_netmon.collectives.record import Recorder

_PATIENCE: Final = 1_000_000_000
"""Nanoseconds after which a work is followed by its future, if its caller did not wait for it after all."""

_AT_ONCE: Final = 1_000_000
_BLOCKED: Final = 100_000
"""Nanoseconds. A wait that came later than ``_AT_ONCE`` and took less than ``_BLOCKED`` found a work that was
complete already."""


class Waits:
    """Replaces ``Work.wait`` from ``install`` to ``remove``, which puts the original back."""

    def __init__(self) -> None:
        self._expected: dict[int, CollectiveEvent] = {}
        self._ours: dict[type, bool] = {}
        self._original: Any = None
        self._wait: Any = None
        self._main = threading.main_thread().ident
        self.blocked = 0
        """Nanoseconds that the main thread spent in ``Work.wait``."""

    def install(self, recorder: Recorder) -> None:
        """Put ours in. torch must be imported."""
        from torch.distributed import Work

        self._original = Work.__dict__["wait"]
        self._wait = _make_wait(self._original, self, recorder)
        Work.wait = self._wait

    def remove(self) -> None:
        """Put the original back, unless somebody else's stands there by now: then ours only passes calls on."""
        if self._original is None:
            return
        from torch.distributed import Work

        if Work.__dict__["wait"] is self._wait:
            Work.wait = self._original
        self._original = None
        self._ours.clear()
        self._expected.clear()

    def expect(self, work: Any, event: CollectiveEvent) -> bool:
        """Finish ``event`` when ``work.wait()`` returns. False when a wait for this work would not pass here."""
        cls = type(work)
        ours = self._ours.get(cls)
        if ours is None:
            ours = self._ours[cls] = self._original is not None and getattr(cls, "wait", None) is self._wait
        if ours:
            event.work = work
            self._expected[id(work)] = event
        return ours

    def follow_the_unwaited(self, recorder: Recorder) -> None:
        """Fall back to the futures of works that nobody waited for; called from the background.

        If such a work completed meanwhile, when it did is not known: its event is marked as late.
        """
        since = recorder.clock() - _PATIENCE
        for key, event in list(self._expected.items()):
            if event.is_async is not False or event.start > since or self._expected.pop(key, None) is None:
                continue
            work, event.work = event.work, None
            try:
                event.is_late = work.is_completed()
                recorder.follow(event, work)
            except Exception:  # noqa: BLE001 - law 1
                recorder.failure()
                recorder.finished(event)


def _make_wait(original: Any, waits: Waits, recorder: Recorder) -> Any:
    call = getattr(original, "__func__", original)
    finish = recorder.ring.finish
    expected, clock, get_ident = waits._expected, recorder.clock, threading.get_ident

    def wait(self: Any, *args: Any, **kwargs: Any) -> Any:
        event = expected.pop(id(self), None)
        since = clock()
        try:
            result = call(self, *args, **kwargs)
        except BaseException as error:
            if event is not None:
                event.work = None
                recorder.failed(event, error)
            raise
        end = clock()
        if get_ident() == waits._main:
            waits.blocked += end - since
        if event is not None:
            event.work = None
            if event.is_async is not False and since - event.start > _AT_ONCE:
                event.is_late = end - since < _BLOCKED
            finish(event, end)
        return result

    wait.__doc__ = call.__doc__
    return wait
