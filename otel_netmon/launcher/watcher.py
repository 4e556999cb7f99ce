"""A thread in the parent of ranks that waits for them to end, and tells how in log events.

It sleeps until one ends, and looks for new ones once a second. It takes no status from the launcher, and ends with
it. Ranks are the children that have another ``RANK`` in their environment than this process, and those that have a
box (``black_box``): what ``torch.multiprocessing.spawn`` starts has no such variable.
"""

from __future__ import annotations

import atexit
import logging
import os
import select
import sys
import time
from typing import TYPE_CHECKING, Final

from otel_netmon import config, forks, threads
from otel_netmon.black_box.folder import BoxFolder
from otel_netmon.emit.log_events import LogEvents
from otel_netmon.endings import RankExit
from otel_netmon.guard import guarded
from otel_netmon.job import roles
from otel_netmon.launcher import children, events

if TYPE_CHECKING:
    from collections.abc import Mapping

_logger = logging.getLogger(__name__)

_EVERY: Final = 1.0
"""Seconds between two looks for new children."""
_STOP_WAIT: Final = 2.0
_MARKS: Final = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID")
"""A helper of the launcher's has the launcher's own, which may be the number of a node."""
_MOST: Final = 4096
"""Ranks of a host that are watched at once."""
_LOOKS: Final = 2


class RankWatcher:
    """One per process that is the parent of ranks. ``start`` and ``stop`` may be repeated.

    ``lists``: whether children are to be recognised by their environment. Not in a rank: what it starts has its
    environment, and data loaders are no ranks.
    """

    def __init__(self, *, lists: bool) -> None:
        self._lists = lists
        self._logs = LogEvents()
        self._begin_again()
        forks.register(self)

    def _begin_again(self) -> None:
        self._thread: threads.Running | None = None
        self._folder: BoxFolder | None = None
        self._watched: dict[int, RankExit] = {}
        """By descriptor, the ranks that live, as far as is known."""
        self._looked: dict[int, int] = {}
        """How often a child was looked at and was no rank; twice will do. (Between fork and exec it seems to have
        its parent's environment.)"""
        self._read: dict[int, int | None] = {}
        """Ranks by the boxes that were read, by process id."""
        self._woken = self._wake = -1

    def after_fork_in_child(self) -> None:
        """The ranks and the thread are the parent's."""
        atexit.unregister(self.stop)
        for fd in (*self._watched, self._woken, self._wake):
            if fd >= 0:
                os.close(fd)
        if self._folder is not None:
            self._folder.forget()
        self._begin_again()

    def start(self) -> None:
        """Begin, where the system has what is needed, and somebody takes log events."""
        if self._thread is not None or not self._logs.ready():
            return
        if not sys.platform.startswith("linux"):
            _logger.debug("otel-netmon: how ranks end is told on Linux only")
            return
        if config.current().black_box == "on":
            try:
                self._folder = BoxFolder(os.environ)
            except OSError as error:
                _logger.debug("otel-netmon: the last collectives of ranks that are killed are lost: %s", error)
        self._woken, self._wake = os.pipe()
        self._thread = threads.start(self._run, "otel-netmon-ranks")
        atexit.register(self.stop)

    def stop(self) -> None:
        """Tell of those that ended until now, and of no others; at most 2 s."""
        atexit.unregister(self.stop)
        thread, self._thread = self._thread, None
        if thread is not None:
            os.close(self._wake)
            self._wake = -1
            thread.join(_STOP_WAIT)

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._woken, select.POLLIN)
        ready: list[int] = []
        while self._woken not in ready:
            guarded(self._look_for_new, poller)
            ready = [fd for fd, _ in poller.poll(_EVERY * 1000)]
            guarded(self._tell, poller, list(self._watched) if self._woken in ready else ready)
        for fd in (*self._watched, self._woken):
            os.close(fd)
        self._watched, self._woken = {}, -1
        if self._folder is not None:
            guarded(self._folder.remove)
            self._folder = None

    def _look_for_new(self, poller: select.poll) -> None:
        if not children.has_any():
            self._looked.clear()
            return
        boxed = frozenset[int]() if self._folder is None else self._folder.pids()
        present = boxed | children.pids() if self._lists else boxed
        for pid in present - {rank.pid for rank in self._watched.values()}:
            rank = self._rank(pid, has_box=pid in boxed)
            if rank is not None and len(self._watched) < _MOST:
                guarded(self._watch, poller, rank)
        self._looked = {pid: count for pid, count in self._looked.items() if pid in present}

    def _rank(self, pid: int, *, has_box: bool) -> RankExit | None:
        """The rank that ``pid`` is, if it is one."""
        if has_box or self._looked.get(pid, 0) < _LOOKS:
            environ = children.environment(pid)
            given = roles.environment_rank(environ)
            is_rank = given is not None and "RANK" in environ and _marks(environ) != _marks(os.environ)
            if is_rank and given is not None:
                return RankExit(pid, given.rank, given.local_rank, given.world_size)
            if has_box:
                return RankExit(pid)
            self._looked[pid] = self._looked.get(pid, 0) + 1
        return None

    def _watch(self, poller: select.poll, rank: RankExit) -> None:
        try:
            fd = children.watch(rank.pid)
        except ProcessLookupError:  # it has ended, and was waited for
            return
        if children.is_child(fd):
            self._watched[fd] = rank
            poller.register(fd, select.POLLIN)
        else:
            os.close(fd)

    def _tell(self, poller: select.poll, ready: list[int]) -> None:
        ended: dict[int, RankExit] = {}
        now = time.time_ns()
        for fd in self._watched.keys() & {*ready}:
            how = children.status(fd, self._watched[fd].pid)
            if how is not None:
                rank = self._watched.pop(fd)
                poller.unregister(fd)
                os.close(fd)
                ended[rank.pid] = rank._replace(code=how.code, signal=how.signal, time=now)
        if self._folder is not None:
            for calls in self._folder.left_behind(ended):
                self._read[calls.pid] = calls.rank
                if len(self._read) > _MOST:
                    del self._read[next(iter(self._read))]
                guarded(self._emit, events.of_calls(calls))
        for pid, rank in ended.items():
            known = self._read.pop(pid, None)
            guarded(self._emit, events.of_exit(rank if rank.rank is not None else rank._replace(rank=known)))

    def _emit(self, event: events.Event) -> None:
        name, body, attributes, at, severity = event
        self._logs.emit(name, body, attributes, time=at, severity=severity)


def _marks(environ: Mapping[str, str]) -> tuple[str | None, ...]:
    return tuple(environ.get(name) for name in _MARKS)
