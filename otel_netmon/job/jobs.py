"""Which job this process is in: the life of a default group, or, where there is none, that of the process.

A default group can be destroyed and made again, with other ranks and another store; each one is a job of its own.
A process may also have groups and no default group, as inference workers that get their weights by a group made of
torch's own parts: its rank is absent then. Such a group, whose members are in several jobs, is *foreign*: its
collectives are tied together by its own name and numbers.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from otel_netmon import config, threads
from otel_netmon.job import roles
from otel_netmon.job.groups import Group, first_known
from otel_netmon.job.identity import RunId
from otel_netmon.job.job import Job
from otel_netmon.job.roles import RankIdentity
from otel_netmon.job.store import default_group, store_of

_MOST_USED: Final = 64


class Jobs:
    """The jobs of this process, one after the other; ``changed`` is called with each new one.

    ``place`` runs on the training thread, once per group.
    """

    def __init__(self, changed: Callable[[Job], None]) -> None:
        self._changed = changed
        self.after_fork_in_child()

    def after_fork_in_child(self) -> None:
        """A process is in no job until it has a group of its own."""
        self._lock = threads.RLock()
        self._number = self._generation = 0
        self._used: deque[RunId] = deque(maxlen=_MOST_USED)
        self.current: Job | None = None
        self._unknown: Job | None = None

    def begun(self) -> int:
        """The ``SharedCount`` of the job of now."""
        job = self.current
        return 0 if job is None else job.begun.last()

    def refresh(self) -> Job | None:
        """The job of now, after a look at whether a default group has come or gone."""
        world = default_group()
        with self._lock:
            job = self.current
            if job is not None and job.world is not None and job.world() is not world:
                job.ended = True
                job = self.current = None
            if world is not None and (job is None or job.world is None):
                job = self._begin(world)
            return job

    def end(self) -> None:
        """The default group is destroyed."""
        with self._lock:
            if self.current is not None and self.current.world is not None:
                self.current.ended = True
                self.current = None

    def place(self, process_group: Any, group: Group) -> None:
        """Note in ``group`` which job it is in, and whether it is foreign to it. ``process_group`` is torch's, or
        ``None`` where it is gone."""
        with self._lock:
            job = self.refresh()
            world = None if job is None or job.world is None else job.world()
            if process_group is None:
                pass  # its calls were found later
            elif job is not None and world is not None and _is_of(process_group, world):
                if group.size == job.rank.world_size:
                    group.begun = job.begun
            else:
                source = None if job is None or job.world is None else job.run_id
                group.run_id = self._run_id(process_group, group.rank, foreign=True, source=source)
                if job is None:
                    job = self._enter(roles.launched_rank(), group.run_id, None)
                    group.begun = job.begun
            group.job = job

    def unknown(self) -> Job:
        """The job of groups of which nothing is known."""
        with self._lock:
            if self._unknown is None:
                settings = config.current()
                self._unknown = Job(roles.launched_rank(), RunId(settings.run_id, 0.0), None)
            return self._unknown

    def _begin(self, world: Any) -> Job:
        rank, size = first_known(lambda: int(world.rank())), first_known(lambda: int(world.size()))
        launched = roles.environment_rank()
        local = launched.local_rank if launched is not None and launched.rank == rank else None
        used = [one.value for one in self._used]
        run_id = self._run_id(world, rank, generation=self._generation, used=used)
        self._generation += 1
        self._used.append(run_id)
        return self._enter(RankIdentity(rank, local, size), run_id, weakref.ref(world))

    @staticmethod
    def _run_id(process_group: Any, rank: int | None, **about: Any) -> RunId:
        settings = config.current()
        return RunId(
            settings.run_id,
            settings.run_id_timeout,
            attempt=roles.restart_count(),
            store=partial(store_of, weakref.ref(process_group)),
            is_first=rank == 0,
            **about,
        )

    def _enter(self, rank: RankIdentity, run_id: RunId, world: weakref.ref[Any] | None) -> Job:
        job = self.current = Job(rank, run_id, world, self._number)
        self._number += 1
        self._changed(job)
        return job


def _is_of(process_group: Any, world: Any) -> bool:
    """Whether a group was made of the default group: then it uses the same store, below other keys."""
    if process_group is world:
        return True
    ours, theirs = store_of(weakref.ref(world)), store_of(weakref.ref(process_group))
    return ours is None or theirs is None or ours.is_same_as(theirs)  # where nothing says otherwise
