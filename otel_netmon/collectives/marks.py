"""What happens around the steps: optimizers and DDP are made, and at the end the job's groups are destroyed.

The last construction ahead of the first step is the end of the setup. After the groups are gone a process may be
killed at any time (Ray does that), so what was captured has to be out by then.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any


class Marks:
    """Calls ``made`` after each construction, and ``destroyed`` when the default group is gone with all others.

    Neither may raise. What is replaced in torch from ``install`` to ``remove`` is put back by identity.
    """

    def __init__(self, made: Callable[[], None], destroyed: Callable[[], None]) -> None:
        self._made = made
        self._destroyed = destroyed
        self._unregister_all: Any = None
        self._original: Any = None
        self._replaced: list[tuple[type, Any, Any]] = []

    def install(self) -> None:
        """Begin to watch. torch must be imported."""
        from torch.distributed import distributed_c10d as c10d
        from torch.nn.parallel import DistributedDataParallel
        from torch.optim import Optimizer

        for cls in (DistributedDataParallel, Optimizer):
            original = cls.__init__
            ours = _after(original, self._made)
            cls.__init__ = ours
            self._replaced.append((cls, original, ours))
        self._original = original = getattr(c10d, "_unregister_all_process_groups", None)
        if original is not None:

            def unregister_all() -> None:
                original()
                self._destroyed()

            self._unregister_all = c10d._unregister_all_process_groups = unregister_all

    def remove(self) -> None:
        """Put the originals back, where nobody else has replaced ours."""
        for cls, original, ours in self._replaced:
            if cls.__dict__.get("__init__") is ours:
                cls.__init__ = original  # type: ignore[misc]
        self._replaced.clear()
        if self._original is not None:
            from torch.distributed import distributed_c10d as c10d

            if c10d._unregister_all_process_groups is self._unregister_all:
                c10d._unregister_all_process_groups = self._original
            self._original = None


def _after(original: Callable[..., None], made: Callable[[], None]) -> Callable[..., None]:
    @functools.wraps(original)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        made()

    return init
