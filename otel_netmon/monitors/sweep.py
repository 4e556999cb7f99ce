"""A timed sweep of all_reduce sizes, on a process group of its own. It is a collective call.

torch is not imported here at module level, and not at all unless the process has loaded ``torch.distributed``
itself: without that there can be no process group to measure. On CUDA the device is synchronised around each
repetition; that path has not been run on hardware.
"""

from __future__ import annotations

import datetime
import statistics
import sys
import threading
import time
import weakref
from typing import Any, Final

from otel_netmon.monitors.values import SweepPoint

SIZES: Final = tuple(1024 * 4**power for power in range(7))
"""1 KiB … 4 MiB, in powers of four."""

REPETITIONS: Final = 5
GROUP_DESCRIPTION: Final = "otel_netmon_sweep"
_ELEMENT: Final = 4  # bytes of a float32


class Unavailable(Exception):
    """No sweep can be made; the message says why, in words for the user."""


class Sweep:
    """The sweep of one process, its group made at the first call and again after each re-initialisation."""

    def __init__(self, sizes: tuple[int, ...], repetitions: int, timeout: float) -> None:
        self._sizes = sizes
        self._repetitions = repetitions
        self._timeout = datetime.timedelta(seconds=timeout)
        # Callers take turns: two sweeps of one rank at once would mix their collectives. Nothing but a sweep
        # ever waits for this, and no monitor's lock is held meanwhile.
        self._turn = threading.Lock()
        self._world: weakref.ref[Any] | None = None
        self._group: Any = None
        self._broken: str | None = None
        self.group_name: str | None = None

    def run(self) -> tuple[tuple[SweepPoint, ...], list[float], str, int]:
        """Points, the duration (s) of every repetition, the backend, and the number of ranks.

        Every rank must call it, in the same order among its collectives. Raises ``Unavailable``.
        """
        with self._turn:
            dist = sys.modules.get("torch.distributed")
            if dist is None or not dist.is_available() or not dist.is_initialized():
                raise Unavailable("no process group is initialised in this process")
            world = dist.group.WORLD
            # Weak: holding the default group would keep a destroyed one, with its threads and sockets, alive.
            if self._world is None or self._world() is not world:
                self._world = weakref.ref(world)
                self._group = self.group_name = self._broken = None
            if self._broken is not None:
                # Making a new group needs all ranks, and some may not have failed: a try could only hang.
                raise Unavailable(f"an earlier sweep in this process group failed: {self._broken}")
            try:
                if self._group is None:
                    self._group = dist.new_group(timeout=self._timeout, group_desc=GROUP_DESCRIPTION)
                    self.group_name = self._group.group_name
                return self._measure(dist)
            except Exception as error:
                self._broken = f"{type(error).__name__}: {str(error)[:200]}"
                raise Unavailable(f"the sweep failed: {self._broken}") from error

    def _measure(self, dist: Any) -> tuple[tuple[SweepPoint, ...], list[float], str, int]:
        import torch

        group = self._group
        ranks: int = dist.get_world_size(group)
        backend: str = dist.get_backend(group)
        on_device = backend == "nccl"
        device = torch.device("cuda", torch.cuda.current_device()) if on_device else torch.device("cpu")
        points: list[SweepPoint] = []
        everything: list[float] = []
        factor = 2 * (ranks - 1) / ranks
        for size in self._sizes:
            tensor = torch.zeros(size // _ELEMENT, dtype=torch.float32, device=device)
            durations: list[float] = []
            dist.barrier(group=group)
            for repetition in range(self._repetitions + 1):
                if on_device:
                    torch.cuda.synchronize(device)
                start = time.perf_counter()
                dist.all_reduce(tensor, group=group)
                if on_device:
                    torch.cuda.synchronize(device)
                if repetition:  # the first one sets up connections and buffers
                    durations.append(time.perf_counter() - start)
            everything += durations
            median = statistics.median(durations)
            algbw = size / median if median > 0 else None
            busbw = algbw * factor if algbw is not None and ranks > 1 else None
            points.append(SweepPoint(size, len(durations), median, algbw, busbw))
        return tuple(points), everything, backend, ranks

    def after_fork_in_child(self) -> None:
        """Forget the parent's group, and the lock that a thread of it may have held."""
        self._turn = threading.Lock()
        self._world = self._group = self.group_name = self._broken = None
