"""A capture backend by itself, and groups for it to capture. torch is imported when they are made."""

from __future__ import annotations

import datetime
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from otel_netmon.capture.event import CollectiveEvent
from otel_netmon.capture.native import loader
from otel_netmon.capture.recorder import Recorder
from otel_netmon.capture.ring import EventRing
from otel_netmon.capture.steps import StepTracker
from otel_netmon.job.groups import Groups


def built() -> pytest.MarkDecorator:
    """Skips a module's tests where there is nothing to test. torch must be there."""
    return pytest.mark.skipif(loader.find() is None, reason="make native VENV=.venv214 TORCH=torch==2.14.1")


class Captured:
    """A backend by itself, from its making to ``close``."""

    def __init__(self, cls: Any, capacity: int = 100, groups: Groups | None = None) -> None:
        self.ring = EventRing(capacity)
        self.steps = StepTracker()
        self.recorder = Recorder(self.ring, self.steps)
        self.groups = groups or Groups()
        self.backend = cls(self.recorder, self.groups)
        self.backend.install()

    def close(self) -> None:
        self.backend.close_failed_calls()
        self.backend.remove()
        self.ring.abandon()

    def ended(self, count: int) -> list[CollectiveEvent]:
        """Once that many have; completions come from gloo's threads."""
        events: list[CollectiveEvent] = []
        deadline = time.monotonic() + 10
        while len(events) < count and time.monotonic() < deadline:
            events += self.ring.drain()
        assert len(events) == count
        return events


def with_backend(backend: Any, store: Any = None, kind: Any = None) -> Any:
    """A group that torch does not know of."""
    import torch
    import torch.distributed as dist

    group = dist.ProcessGroup(store or dist.HashStore(), backend.rank(), backend.size())
    kind = kind or dist.ProcessGroup.BackendType.CUSTOM
    group._register_backend(torch.device("cpu"), kind, backend)
    group._set_default_backend(kind)
    return group


class Pair:
    """A group of two ranks, both in this process: a call on ``first`` ends when ``second`` makes it too."""

    def __init__(self) -> None:
        import torch.distributed as dist

        self.begun: list[int] = []
        store = dist.HashStore()
        with ThreadPoolExecutor(2) as pool:  # they wait for each other
            self.first, self.second = pool.map(lambda rank: self._group(store, rank), range(2))

    def _group(self, store: Any, rank: int) -> Any:
        import torch.distributed as dist

        backend = dist.ProcessGroupGloo(store, rank, 2, datetime.timedelta(seconds=60))
        return with_backend(backend, store, dist.ProcessGroup.BackendType.GLOO)

    def begin(self, count: int = 8) -> Any:
        import torch

        self.begun.append(count)
        return self.first.allreduce([torch.ones(count)])

    def end(self) -> None:
        """End the oldest that has not."""
        import torch

        self.second.allreduce([torch.ones(self.begun.pop(0))]).wait()
